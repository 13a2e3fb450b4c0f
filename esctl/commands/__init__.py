"""The command groups, one file each; `esctl/cli/commandtable.py` loads the one that is asked for."""
