"""Tests of `esctl/query`."""
