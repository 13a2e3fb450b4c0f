"""Whether a machine is fit to run nodes, and what earlier clusters have left on it."""
