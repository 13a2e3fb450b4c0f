"""The peers' side of a node: links to the other nodes, and what is known of them."""
