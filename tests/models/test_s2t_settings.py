"""Speech to text: architectures, flags, and settings that are refused."""

import pytest
import torch
from fairseq.models import ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_REGISTRY
from flags import model_flags, parse_arguments
from speech import make_speech_model, make_speech_task

from b2t_common.errors import InputError

# In millions, with a vocabulary of 10,000, as in the table of fairseq's recipe for LibriSpeech.
# The recipe's text has 31M for the first.
COUNTS = {"s": 29.5, "m": 71.2, "l": 267.8}
SIZES = {
    "b2t_s2t_transformer": (12, 6, 512, 2048, 8),
    "b2t_s2t_transformer_xs": (6, 3, 256, 1024, 4),
    "b2t_s2t_transformer_s": (12, 6, 256, 2048, 4),
    "b2t_s2t_transformer_m": (12, 6, 512, 2048, 8),
    "b2t_s2t_transformer_l": (12, 6, 1024, 4096, 16),
}


def parse_speech(arch, *flags):
    """Return fairseq's settings of a training command for speech."""
    return parse_arguments("--task", "speech_to_text", "--arch", arch, *flags)


def test_architectures_have_fairseqs_sizes_and_b2t():
    assert sorted(ARCH_MODEL_INV_REGISTRY["b2t_s2t_transformer"]) == sorted(SIZES)
    for arch, (encoder_layers, decoder_layers, width, ffn, heads) in SIZES.items():
        args, stock = parse_speech(arch), parse_speech(arch.removeprefix("b2t_"))
        assert (args.encoder_layers, args.decoder_layers) == (encoder_layers, decoder_layers)
        for stack in ("encoder", "decoder"):
            assert getattr(args, f"{stack}_embed_dim") == width
            assert getattr(args, f"{stack}_ffn_embed_dim") == ffn
            assert getattr(args, f"{stack}_attention_heads") == heads
            assert not getattr(args, f"{stack}_normalize_before")
        # Nothing else differs except what this plugin adds.
        ours, theirs = vars(args), vars(stock)
        assert args.residual == "b2t"
        changed = {name for name in theirs if name in ours and ours[name] != theirs[name]}
        assert changed == {"arch", "encoder_normalize_before", "decoder_normalize_before"}


def test_flags_are_fairseqs_and_our_own():
    """Those of word dropout in the encoder are missing, since speech has no words there."""
    ours, theirs = (
        model_flags(arch, "--task", "speech_to_text") for arch in ("b2t_s2t_transformer", "s2t_transformer")
    )
    assert theirs < ours
    assert ours - theirs == {
        "--residual",
        "--layer-sharing",
        "--encoder-unique-layers",
        "--decoder-unique-layers",
        "--share-sublayers",
        "--share-norms",
        "--no-share-norms",
        "--share-encoder-decoder",
        "--decoder-word-dropout",
        "--depth-scaled-init",
        "--init",
        "--branch-norm-updates",
        "--norm",
        "--rms-norm-bias",
        "--power-norm-warmup",
        "--center-embedding",
        "--positions",
        "--shape-offsets",
        "--kernels",
        "--compile",
        "--admin-profile",
    }


@pytest.mark.parametrize(("size", "millions"), COUNTS.items())
def test_parameter_counts_are_those_of_fairseqs_recipe(size, millions):
    def count(**flags):
        args = parse_speech(f"b2t_s2t_transformer_{size}", "--share-decoder-input-output-embed")
        vars(args).update(input_feat_per_channel=80, input_channels=1, **flags)
        with torch.device("meta"):
            model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
        return sum(parameter.numel() for parameter in model.parameters())

    task = make_speech_task(num_words=10000 - 4)
    assert f"{count() / 1e6:.1f}" == f"{millions}"
    shared = {"layer_sharing": "cycle", "encoder_unique_layers": 12, "decoder_unique_layers": 6}
    assert count(encoder_layers=24, decoder_layers=12, **shared) == count()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"encoder_normalize_before": True}, ["--encoder-normalize-before", "--residual b2t", "pre_ln"]),
        ({"layer_sharing": "cycle", "encoder_unique_layers": 4}, ["--encoder-unique-layers", "4", "6 layers"]),
        ({"encoder_word_dropout": 0.1}, ["--encoder-word-dropout 0.1", "speech"]),
        ({"dropout": 1.0}, ["--dropout 1.0"]),
        ({"conv_kernel_sizes": "5,4"}, ["--conv-kernel-sizes 5,4", "odd"]),
        ({"conv_kernel_sizes": "five"}, ["--conv-kernel-sizes five", "5,5"]),
        ({"conv_kernel_sizes": "\u00b3"}, ["--conv-kernel-sizes \u00b3", "5,5"]),
        ({"conv_out_channels": 16}, ["--conv-out-channels 16 has no effect with --conv-version s2t_transformer"]),
        ({"conv_version": "convtransformer"}, ["--conv-channels 16 has no effect with --conv-version convtransformer"]),
        ({"conv_channels": 15}, ["--conv-channels 15", "even"]),
        ({"residual": "mix_ln", "decoder_layers": 3}, ["--decoder-layers 3", "mix_ln"]),
        (
            {"residual": "admin", "load_pretrained_encoder_from": "other.pt"},
            ["--load-pretrained-encoder-from other.pt", "--residual admin"],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_contradictions_are_refused(flags, words):
    """The message quotes the values that contradict each other."""
    with pytest.raises(InputError) as error:
        make_speech_model(**flags)
    assert all(word in str(error.value) for word in words), error.value
