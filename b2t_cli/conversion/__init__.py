"""Checkpoints of the papers' releases into this plugin's, and this plugin's into stock fairseq and safetensors."""
