"""The command groups, one file each; `esctl/main.py` loads the one that is asked for."""
