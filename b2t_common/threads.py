"""How long OpenMP's threads spin while they wait for each other.

By default they spin for milliseconds before they sleep.  On a quiet machine that saves a little time.  Beside other
work a thread that computes waits for a core on which another one spins, and training takes several times as long.
"""

from __future__ import annotations

import os

SPINS = "2000"
"""How often a waiting thread looks before it sleeps: for some twenty microseconds, longer than most pauses.

With more a busy machine becomes slow, with fewer a quiet one (``python -m benchmarks.busy_machine``).
"""

_CHOSEN_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_waiting_threads_sleep() -> None:
    """Set the default for this process and those that it starts, unless the user has chosen.

    PyTorch's OpenMP reads the setting when it is loaded, so this has to be called before PyTorch is imported.
    """
    if not any(name in os.environ for name in _CHOSEN_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = SPINS
