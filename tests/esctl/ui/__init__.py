"""Tests of `esctl/ui`."""
