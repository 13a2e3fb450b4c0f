"""Frames and messages, there and back."""
