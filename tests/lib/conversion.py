"""Converting recorded checkpoints by the command, and comparing converted models with recorded numbers."""

import torch
from golden import Golden, translate
from releases import load_model, release_checkpoint, save_as_release, write_dictionaries

from b2t_cli import main as b2t

SHARING = {"sequence": "sequence", "cycle": "cycle", "cycle_reverse": "cycle_rev"}
SEQUENCE = "share_layer_params/sequence_n6_k2"
ADMIN = "share_layer_params/admin_cycle_reverse_n6_k2"
POST, PRE, B2T = (f"b2t_connection/{name}_3_3" for name in ("postln", "preln", "b2t"))
PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}


def convert(checkpoint, folder, *flags, old=True, output="converted.pt"):
    """Convert a checkpoint by the command; return the path of the result."""
    source = checkpoint if not isinstance(checkpoint, dict) else save_as_release(checkpoint, folder / "old.pt", old)
    assert b2t(["convert", str(source), str(folder / output), *flags]) == 0
    return folder / output


def refused(checkpoint, folder, capsys, *flags):
    """Return the message with which a conversion is refused; check that nothing was written."""
    source = checkpoint if not isinstance(checkpoint, dict) else save_as_release(checkpoint, folder / "old.pt")
    before = sorted(folder.iterdir())
    capsys.readouterr()
    assert b2t(["convert", str(source), str(folder / "converted.pt"), *flags]) == 1
    assert sorted(folder.iterdir()) == before
    message = capsys.readouterr().err
    assert message.startswith(f"b2t convert: error: {source}")
    return message


def loaded(name, path, tmp_path):
    """Return what was recorded of a model, and the converted model with its settings."""
    golden = Golden(name)
    model, cfg, _ = load_model(path, write_dictionaries(golden.meta["dictionary"][4:], tmp_path))
    return golden, model, cfg


def assert_logits(golden, model, prefix):
    """Check that a model gives the recorded logits under ``prefix``."""
    batch = golden.batch()
    with torch.no_grad():
        logits, _ = model(**batch["net_input"])
    real = batch["target"] != golden.meta["pad"]
    assert (logits - golden[f"{prefix}logits"])[real].abs().max() < 1e-5


def assert_translations(golden, model, key):
    """Check that a model gives the recorded translations and scores, of greedy search and with a beam of 4."""
    for beam, name in ((1, "greedy"), (4, "beam4")):
        hypotheses = translate(model, golden.dictionary, golden.batch(), beam)
        for ours, theirs in zip(hypotheses, golden.meta[key][name], strict=True):
            assert [hypothesis["tokens"].tolist() for hypothesis in ours] == [h["tokens"] for h in theirs]
            for hypothesis, other in zip(ours, theirs, strict=True):
                assert abs(hypothesis["score"].item() - other["score"]) < 1e-5


def edited(name, **overrides):
    """Return a checkpoint with other settings; ``model`` has tensors by name, and ``None`` for those to leave out."""
    tensors = overrides.pop("model", {})
    checkpoint = release_checkpoint(name, **overrides)
    checkpoint["model"].update(tensors)
    checkpoint["model"] = {k: v for k, v in checkpoint["model"].items() if v is not None}
    return checkpoint


def first_layers(model, owners, slip=True):
    """Return a 6-layer model's tensors with each layer a copy of its owner, as the sharing release stores them.

    With ``slip`` a copied layer takes the biases of its cross-attention from its owner's self-attention, as there.
    """
    result = {name: tensor for name, tensor in model.items() if ".layers." not in name}
    for stack in ("encoder", "decoder"):
        for depth, owner in enumerate(owners):
            prefix = f"{stack}.layers.{owner}."
            for name in [name for name in model if name.startswith(prefix)]:
                result[name.replace(prefix, f"{stack}.layers.{depth}.")] = model[name]
            if slip and stack == "decoder" and owner != depth:
                bias = f"decoder.layers.{depth}.encoder_attn.in_proj_bias"
                result[bias] = model[f"{prefix}self_attn.in_proj_bias"]
    return result
