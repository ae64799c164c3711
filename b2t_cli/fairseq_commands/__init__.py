"""fairseq's own commands with this plugin loaded: what ``b2t train`` and ``b2t generate`` do."""

# before fairseq: on import fairseq logs a line, which would configure logging for the whole program
import b2t_fairseq  # noqa: F401
