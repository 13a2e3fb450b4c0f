"""Tests of `esctl/upkeep`."""
