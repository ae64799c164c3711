"""A whole text translated with a run, in parts that several processes share and of which a kill loses none."""
