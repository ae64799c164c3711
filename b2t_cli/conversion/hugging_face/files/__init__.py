"""What ``b2t convert --to transformers`` copies into the folder of each model; it needs torch and transformers only."""
