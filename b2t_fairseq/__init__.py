"""B2T connection and parameter sharing across layers for fairseq; this folder is the ``--user-dir``."""

from b2t_common import __version__  # noqa: F401

from .upstream.compatibility import allow_checkpoint_types, require_fairseq, root_logger_untouched

require_fairseq()
with root_logger_untouched():
    from . import admin_profile, decoding
    from .kernels.adam import FairseqAdam  # noqa: F401  (registers the optimizer)
    from .kernels.cross_entropy import LabelSmoothedCrossEntropyCriterion  # noqa: F401  (registers the criterion)
    from .models import s2t_transformer, transformer, transformer_lm  # noqa: F401  (registers the models)
    from .upstream import fixes

allow_checkpoint_types()
fixes.apply()
admin_profile.apply()
decoding.apply()
