"""Checkpoints of the two papers' releases into this plugin's, and this plugin's into stock fairseq's and safetensors."""
