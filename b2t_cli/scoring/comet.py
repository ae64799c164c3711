"""COMET (Rei et al. 2020), computed by unbabel-comet in this environment.

``scripts/setup.sh --comet`` installs the library without the versions that it asks for: they exclude NumPy 2, and it
works with it.  ``python -m b2t_cli.scoring.comet [MODEL]`` says whether the library and a model are there.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from b2t_common import programs
from b2t_common.errors import InputError
from b2t_common.scripts import script_command
from b2t_common.versions import installed_version

DEFAULT_MODEL = "Unbabel/wmt22-comet-da"
BATCH_SIZE = 16
_PACKAGES = ("comet", "transformers", "pytorch_lightning", "torchmetrics", "pandas", "entmax")
"""The library, and what it cannot be imported without."""


def require() -> None:
    """Check that the library is installed; this imports nothing.

    Raises:
        InputError: it is not, or not all that it needs.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"COMET needs {', '.join(missing)}, not installed here; install it with "
            f"{script_command('setup.sh', '--comet')}"
        )


class Comet:
    """A model of COMET.

    Attributes:
        signature: the model's name and the library's version, as sacreBLEU's signatures have them.
    """

    def __init__(self, model: Any, name: str) -> None:
        self._model = model.eval()
        self.signature = f"model:{name}|version:{installed_version('unbabel-comet')}"

    def system_score(self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]) -> float:
        """Return the score of a whole test set: the mean of those of its sentences.

        Args:
            sources: the source sentences.
            hypotheses: their translations.
            references: their reference translations.
        """
        import torch

        samples = [
            {"src": source, "mt": hypothesis, "ref": reference}
            for source, hypothesis, reference in zip(sources, hypotheses, references, strict=True)
        ]
        gpus = int(torch.cuda.is_available())
        result = self._model.predict(samples, batch_size=BATCH_SIZE, gpus=gpus, num_workers=0, progress_bar=False)
        return float(result["system_score"])

    def expected_utilities(self, sources: Sequence[str], sentences: Sequence[Sequence[str]]) -> Iterator[list[float]]:
        """Yield the expected utilities of the candidates of each sentence, as of ``b2t mbr``.

        Each different text is encoded once; then only the last layers see pairs.

        Args:
            sources: the source sentences.
            sentences: the candidates of each.

        Raises:
            InputError: the model does not compare embeddings of sentences.
        """
        import torch

        if not hasattr(self._model, "estimate") or not self._model.requires_references():
            raise InputError(
                f"{self.signature} is no model that MBR can use: it needs a regression model with references, such as "
                f"{DEFAULT_MODEL}"
            )
        if torch.cuda.is_available():
            self._model.cuda()
        for source, candidates in zip(sources, sentences, strict=True):
            different = list(dict.fromkeys(candidates))
            with torch.no_grad():
                source_embedding, *embeddings = self._embed([source, *different])
                number = len(different)
                # each candidate as a translation, in blocks with all of them as its references
                scores = self._model.estimate(
                    source_embedding.expand(number * number, -1),
                    torch.stack(embeddings).repeat_interleave(number, dim=0),
                    torch.stack(embeddings).repeat(number, 1),
                )["score"].view(number, number)
            counts = torch.tensor([candidates.count(text) for text in different]).to(scores)
            expected = dict(zip(different, (scores @ counts / len(candidates)).tolist(), strict=True))
            yield [expected[text] for text in candidates]

    def _embed(self, texts: Sequence[str]) -> list[Any]:
        """Return the embedding of each text, ``(embed_dim,)``."""
        embeddings: list[Any] = []
        for start in range(0, len(texts), BATCH_SIZE):
            batch = self._model.encoder.prepare_sample(list(texts[start : start + BATCH_SIZE]))
            batch = {name: tensor.to(self._model.device) for name, tensor in batch.items()}
            embeddings += self._model.get_sentence_embedding(**batch)
        return embeddings


def load(name: str = "") -> Comet:
    """Return a model, which is downloaded if it was not before.

    Args:
        name: its name at Hugging Face, the folder of a downloaded model, or its checkpoint; empty for the default.

    Raises:
        InputError: the library is missing, or the model is not here and cannot be fetched.
    """
    require()
    name = name or DEFAULT_MODEL
    for noisy in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|comet|transformers")
    hide_broken_torchaudio()
    import comet

    path = _local(Path(name))
    if path is None:
        try:
            path = Path(comet.download_model(name))
        except Exception as error:
            raise InputError(
                f"the COMET model {name} is not here and could not be fetched ({_cause(error)}); download it where "
                f"there is a network (`hf download {name}`) and give its folder as MODEL, or leave COMET out: all "
                "other scores do without it"
            ) from None
    try:
        # like PyTorch by default, it runs no code from the checkpoint
        model = comet.load_from_checkpoint(str(path))
    except Exception as error:
        raise InputError(
            f"the COMET model {path} cannot be loaded ({_cause(error)}): it is damaged, or the encoder that its "
            "hparams.yaml names as pretrained_model is not here and could not be fetched (`hf download ENCODER`)"
        ) from None
    _return_three(model.encoder.model)
    return Comet(model, name if not Path(name).exists() else Path(name).resolve().name)


def hide_broken_torchaudio() -> None:
    """Let transformers do without torchaudio, which it imports if it is there, where that cannot be loaded.

    fairseq-fixed asks for torchaudio in any version, and pip may take one that does not fit this PyTorch.
    """
    try:
        importlib.import_module("torchaudio")
    except ImportError:
        pass
    except OSError:
        sys.modules["torchaudio"] = None  # type: ignore[assignment]
        # what transformers found, if it has looked before
        transformers = sys.modules.get("transformers.utils.import_utils")
        for name in ("is_torchaudio_available", "is_speech_available"):
            getattr(getattr(transformers, name, None), "cache_clear", lambda: None)()


def _local(path: Path) -> Path | None:
    """Return the checkpoint that a path names or that lies in a downloaded folder, ``None`` if there is none."""
    if path.is_file():
        return path
    found = sorted(path.glob("checkpoints/*.ckpt")) or sorted(path.glob("snapshots/*/checkpoints/*.ckpt"))
    return found[-1] if found else None


def _return_three(encoder: Any) -> None:
    """Let an encoder return three values, as COMET expects; since transformers 5 the second, ``None``, is left out."""
    plain = encoder.forward

    def forward(*args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        output = plain(*args, **{**kwargs, "return_dict": True})
        return output.last_hidden_state, None, output.hidden_states

    encoder.forward = forward


def _cause(error: BaseException) -> str:
    """Return the last line of the first error: unbabel-comet reports one of its own for whatever has happened."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)


def main() -> None:
    """Load a model and print its signature."""
    print(load(*sys.argv[1:2]).signature)


if __name__ == "__main__":
    sys.exit(programs.run("comet", main))
