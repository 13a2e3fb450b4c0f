"""Tests of `esctl/playbook`."""
