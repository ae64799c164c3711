"""A model of COMET with a few thousand random weights, as a folder of the library's own form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from b2t_cli.scoring.comet import hide_broken_torchaudio

MISSING = "COMET is not installed (bash scripts/setup.sh --comet)"


def write_comet(folder: Path) -> str:
    """Write a regression model with a BERT of letters as its encoder; return its folder.

    The test that calls this is skipped where the library is not installed.
    """
    hide_broken_torchaudio()
    comet = pytest.importorskip("comet.models", reason=MISSING)
    transformers = pytest.importorskip("transformers", reason=MISSING)
    yaml = pytest.importorskip("yaml", reason=MISSING)
    encoder = folder / "encoder"
    encoder.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters, *(f"##{letter}" for letter in letters)]
    (encoder / "vocab.txt").write_text("\n".join(vocabulary))
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    config.save_pretrained(encoder)
    torch.manual_seed(0)
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(encoder)
    model = comet.RegressionMetric(
        encoder_model="BERT", pretrained_model=str(encoder), hidden_sizes=[8], nr_frozen_epochs=0, batch_size=2
    )
    (folder / "checkpoints").mkdir()
    settings = dict(model.hparams)
    state = {"state_dict": model.state_dict(), "hyper_parameters": settings, "pytorch-lightning_version": "2.5.0"}
    torch.save(state, folder / "checkpoints/model.ckpt")
    (folder / "hparams.yaml").write_text(yaml.safe_dump(settings))
    return str(folder)
