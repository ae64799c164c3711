"""A run: its folder, its log, its curves and its model.  No other code reads the folder of a run."""
