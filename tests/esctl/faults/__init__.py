"""Tests of `esctl/faults`."""
