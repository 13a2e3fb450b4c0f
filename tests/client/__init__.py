"""The client library against nodes that are scripted."""
