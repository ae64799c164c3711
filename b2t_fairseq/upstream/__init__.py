"""Everything that this plugin changes in fairseq and PyTorch."""
