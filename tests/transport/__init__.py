"""Streams, connections and their handshake, and what bounds them."""
