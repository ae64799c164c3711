"""``--amp``: float32 weights and float16 products, whose gradients are scaled so that small ones do not vanish."""

from __future__ import annotations

import functools

import torch
from fairseq.dataclass.configs import CommonConfig


def with_step_of_what_was_unscaled(step):
    """Return ``AMPOptimizer.step`` that divides the gradients by the loss scale once.

    When gradients are clipped, fairseq has PyTorch's scaler divide those of PyTorch's optimizer.  Then it has the
    scaler step another object, fairseq's wrapper of that optimizer, so that the scaler divides again.
    """

    @functools.wraps(step)
    def wrapper(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    return wrapper


def with_settings_of_scale(init):
    """Return ``AMPOptimizer.__init__`` that obeys ``--amp-init-scale`` and ``--amp-scale-window``.

    fairseq takes ``--fp16-init-scale`` for the first, and the first for the second.
    """

    @functools.wraps(init)
    def wrapper(self, cfg, params, fp32_optimizer, **kwargs):
        init(self, cfg, params, fp32_optimizer, **kwargs)
        if not self.scaler.is_enabled():
            return
        settings = cfg.common
        if settings.amp_scale_window is not None:
            self.scaler.set_growth_interval(settings.amp_scale_window)
        if settings.amp_init_scale != CommonConfig.amp_init_scale:
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": settings.amp_init_scale})

    return wrapper


def with_embeddings_of_one_type(forward):
    """Return ``AdaptiveInput.forward`` for embeddings that autocasting has made float16."""

    @functools.wraps(forward)
    def wrapper(self, input):
        # the projections are float16 while float32 is the type of the buffer that fairseq fills with them
        with torch.autocast(input.device.type, enabled=False):
            return forward(self, input)

    return wrapper
