"""Whole nodes as they ship, on a simulated network and simulated disks, under a clock that jumps."""
