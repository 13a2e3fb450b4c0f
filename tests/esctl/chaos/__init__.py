"""Tests of `esctl/chaos`."""
