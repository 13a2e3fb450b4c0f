"""The figures of a running cluster, one look after another: `esctl top`."""
