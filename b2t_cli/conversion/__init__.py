"""Checkpoints of the papers' releases into this plugin's, and this plugin's into other formats."""

# before fairseq: on import fairseq logs a line, which would configure logging for the whole program
import b2t_fairseq  # noqa: F401
