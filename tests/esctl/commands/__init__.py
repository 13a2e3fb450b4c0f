"""Tests of `esctl/commands`."""
