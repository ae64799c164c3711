"""What fairseq's logs and checkpoints tell of runs: curves, states, tables, figures and one HTML page."""
