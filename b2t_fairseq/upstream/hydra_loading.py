"""Loads the plugin for ``fairseq-hydra-train`` before that reads the settings of the task.

``fairseq-hydra-train`` checks the keys of ``task:`` first and loads ``common.user_dir`` afterwards.
This is too late for keys that a plugin adds. Hydra creates the callbacks of a file before both:

    hydra:
      callbacks:
        b2t_fairseq:
          _target_: b2t_fairseq.upstream.hydra_loading.Loading
"""

from __future__ import annotations

from hydra.experimental.callback import Callback


class Loading(Callback):
    """A callback that does nothing: to create it, Hydra has imported the plugin."""
