"""The drivers of the other systems: what they say on the wire, without any server, and one slow test with."""
