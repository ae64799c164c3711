"""Numbers for the claims, as if they had been measured."""

from claims.evidence import Evidence
from claims.registry import CLAIMS as ALL_CLAIMS

CLAIMS = {claim.name: claim for claim in ALL_CLAIMS}
REACHING_BOTTOM = {"post_ln": 0.02, "pre_ln": 1.5, "b2t": 0.3}
"""The part of the gradient that reaches the decoder's input in a new model of each scheme."""


def run(config, seed, loss, bleu=20.0, diverged=None):
    """Return the record of a run."""
    about = {"hardware": "a core", "torch": "2", "python": "3", "commit": "abc", "date": "2026-01-01", "minutes": 5.0}
    residual = next((name for name in ("post_ln", "pre_ln", "b2t", "admin") if config.startswith(name)), "admin")
    model = {"residual": residual, "parameters": 1000, "valid_curve": [[100, loss + 1], [200, loss]]}
    return {"config": config, "seed": seed, "valid_loss": loss, "bleu": bleu, "diverged": diverged, **about, **model}


def runs(losses, **values):
    """Return the runs of each configuration, from the losses with seeds 1, 2, ..."""
    return [run(config, seed, loss, **values) for config, seeds in losses.items() for seed, loss in enumerate(seeds, 1)]


def bootstraps(config, baseline, differences):
    """Return the paired bootstraps of two configurations, from the differences with seeds 1, 2, ..."""
    both = {"config": config, "baseline": baseline, "p_value": 0.01}
    return [{**both, "seed": seed, "difference": difference} for seed, difference in enumerate(differences, 1)]


def model(residual, seed, reaching, norm=0.2, sublayer=1.1, top=1.0, updates=0):
    """Return an analysis of a model of two layers.

    Args:
        residual: the scheme.
        seed: the seed.
        reaching: gradient at the decoder's input, relative to that at its output.
        norm: gradient below a norm, relative to that above it.
        sublayer: gradient above a sub-layer, relative to that below it.
        top: gradient of the parameters of each layer.
        updates: 0 for a new model.
    """
    places = [("input", reaching), ("before norm", norm / sublayer), ("after norm", 1 / sublayer)]
    places += [("before norm", norm), ("after norm", 1.0)]
    positions = [{"where": where, "sublayer": "", "gradient": gradient} for where, gradient in places]
    layer = {"gradient": 1.0, "positions": positions, "parameter_gradient": top, "angle": 20.0, "set": 0}
    # the second layer's input is the first one's output
    second = {**layer, "positions": [{**positions[0], "gradient": norm / sublayer**2}, *positions[1:]]}
    stack = {"embed_dim": 64, "layers": [layer, second], "sets": []}
    return {"residual": residual, "seed": seed, "updates": updates, "stacks": {"encoder": stack, "decoder": stack}}


def judge(name, **numbers):
    """Judge a claim by these numbers alone."""
    nothing = {"runs": [], "bootstraps": [], "gradients": [], "schemes": [], "speed": None}
    return CLAIMS[name].judge(Evidence(**nothing | numbers))
