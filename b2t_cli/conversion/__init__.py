"""Checkpoints of the papers' releases into this plugin's, and this plugin's into stock fairseq and safetensors."""

# before fairseq: on import fairseq logs a line, which would configure logging for the whole program
import b2t_fairseq  # noqa: F401
