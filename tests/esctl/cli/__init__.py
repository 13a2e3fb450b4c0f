"""Tests of `esctl/cli`."""
