"""B2T connection and parameter sharing across layers for fairseq; this folder is the ``--user-dir``."""

from b2t_common import __version__  # noqa: F401

from .upstream.compatibility import metrics_of_classification_postponed, require_fairseq, root_logger_untouched

require_fairseq()
with root_logger_untouched(), metrics_of_classification_postponed():
    from .kernels import adam, cross_entropy  # noqa: F401  (register the optimizer and the criterion)
    from .models import s2t_transformer, transformer, transformer_lm  # noqa: F401  (register the models)
    from .upstream import patches, patching

    patches.apply(patching.AT_IMPORT)
