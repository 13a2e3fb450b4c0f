"""What a cluster's clients feel when its leader goes: struck again and again, under load, and measured."""
