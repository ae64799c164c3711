"""Records of runs of the study, as if they had been run."""

from claims.study import grid
from claims.study.grid import UPDATES, WORD_RATES, WORD_SEEDS, WORD_UPDATES, WORDS

BOWL = {"5e-4": 0.2, "1e-3": 0.05, "2e-3": 0.0, "4e-3": 0.08, "8e-3": 0.4}
"""How far a rate is above the best one, which is 2e-3."""


def run(model, rate="2e-3", seed=1, loss=5.0, updates=UPDATES, task="mix", **values):
    """Return the record of a run; without a loss it failed."""
    cell = grid.Cell("", task, grid.MODELS[model], rate, seed, updates)
    layers = {"encoder": cell.model.layers, "decoder": cell.model.layers}
    about = {"hardware": "a core", "torch": "2", "python": "3", "commit": "abc", "date": "2026-01-01", "minutes": 5.0}
    return {
        "run": cell.name,
        **{"task": task, "model": model, "rate": rate, "seed": seed, "updates": updates, "settings": "x"},
        **{"loss": loss, "failure": None if loss is not None else "stopped", "done": updates, "layers": layers},
        **{"vocabulary": 2048, "clipped": 0.25, "curve": [[updates, loss]]},
        **about,
        **values,
    }


def curve(model, best=5.0, shape=BOWL):
    """Return a run at each rate with the first seed, given the loss at the best rate, ``None`` if all runs fail."""
    return [run(model, rate, loss=None if best is None else best + above) for rate, above in shape.items()]


def tuned(model, losses=(5.0, 5.01, 5.02), updates=UPDATES):
    """Return a whole curve and the other seeds, given the losses at the best rate, ``None`` if all runs fail."""
    if losses is None:
        return curve(model, None)
    runs = curve(model, losses[0])
    return runs + [run(model, seed=seed, loss=loss) for seed, loss in enumerate(losses[1:], 2)]


def words(model, long, short=1.0):
    """Return all runs of a model of the word problem, given the share of long words that it solves with each seed."""
    lengths = range(1, 33)
    return [
        run(
            model,
            rate,
            seed,
            task=WORDS,
            updates=WORD_UPDATES,
            exact={str(k): (share if k > 16 else short) * (rate == WORD_RATES[0]) for k in lengths},
        )
        for rate in WORD_RATES
        for seed, share in zip(WORD_SEEDS, long, strict=True)
    ]
