"""Pages of HTML: elements, in which every text is escaped, and their style."""
