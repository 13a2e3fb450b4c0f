"""Tests of everything: see docs/testing.md."""
