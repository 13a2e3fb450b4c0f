"""Tests of `esctl/observe`."""
