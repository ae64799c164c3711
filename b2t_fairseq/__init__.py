"""B2T connection and parameter sharing across layers for fairseq; this folder is the ``--user-dir``."""

from .compatibility import allow_checkpoint_types, require_fairseq, root_logger_untouched

__version__ = "0.1.0"

require_fairseq()
with root_logger_untouched():
    from . import decoding, fairseq_fixes, profiling
    from .fused_adam import FairseqAdam  # noqa: F401  (registers the optimizer)
    from .fused_cross_entropy import LabelSmoothedCrossEntropyCriterion  # noqa: F401  (registers the criterion)
    from .models import s2t_transformer, transformer, transformer_lm  # noqa: F401  (registers the models)

allow_checkpoint_types()
fairseq_fixes.apply()
profiling.apply()
decoding.apply()
