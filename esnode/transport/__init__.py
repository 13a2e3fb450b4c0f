"""Connections of clients and peers alike: bytes, the handshake, and the bounds on both."""
