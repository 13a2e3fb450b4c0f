"""Tests of `esctl/verify`."""
