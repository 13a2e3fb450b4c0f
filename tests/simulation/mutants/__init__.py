"""Bugs planted on purpose: the simulator is believed because it finds them."""
