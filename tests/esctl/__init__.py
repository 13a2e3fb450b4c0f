"""Tests of the operator's toolkit."""
