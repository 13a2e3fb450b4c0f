"""Bytes that no honest sender sends, to every door of a node: only declared errors may come out."""
