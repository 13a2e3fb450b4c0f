"""Tests of `esctl/bench`."""
