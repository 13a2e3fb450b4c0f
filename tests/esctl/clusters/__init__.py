"""Tests of `esctl/clusters`."""
