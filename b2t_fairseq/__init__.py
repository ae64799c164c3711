"""B2T connection and parameter sharing across layers for fairseq; this folder is the ``--user-dir``."""

from .compatibility import allow_checkpoint_types, require_fairseq

__version__ = "0.1.0"

require_fairseq()
allow_checkpoint_types()

from . import models  # noqa: E402, F401  (fairseq imports every model in that folder)
from .models import transformer  # noqa: E402, F401
