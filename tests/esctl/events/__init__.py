"""Tests of `esctl/events`."""
