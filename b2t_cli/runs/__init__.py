"""A run: its folder, its log and its curves."""
