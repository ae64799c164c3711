"""The same numbers in less time: attention, matrix products, compilation, optimizer, criterion.

``--kernels fast`` computes what fairseq computes within rounding, in less time.  ``--kernels fairseq`` uses fairseq's
own operations, bit by bit, and so is what the fast ones are tested against.
"""

FAST, EXACT = KERNELS = ("fast", "fairseq")
"""The choices of ``--kernels``."""
