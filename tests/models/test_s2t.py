"""Speech to text: every scheme and strategy on synthetic features, fairseq's own model bit by bit, a whole run."""

import sys

import numpy as np
import pytest
import torch
from checks import PAIRS, check_training_and_decoding, sharing
from equations import LAYERS, run_stack
from fairseq import checkpoint_utils, options
from fairseq.models import ARCH_MODEL_INV_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq_cli import generate as fairseq_generate
from fairseq_cli import train as fairseq_train
from helpers import randomize, step_by_step_logits
from speech import MELS, make_speech_batch, make_speech_model, make_speech_task
from training import PLUGIN, assert_same_model, load

from b2t_cli.average import main as b2t_average
from b2t_cli.convert import main as b2t_convert
from b2t_cli.generate import main as b2t_generate
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq import admin_profile
from b2t_fairseq.residual import SCHEMES


@pytest.mark.parametrize(("scheme", "strategy"), PAIRS)
def test_trains_saves_loads_decodes(tmp_path, scheme, strategy):
    flags = {"encoder_layers": 4, "decoder_layers": 4, **sharing(strategy)}
    if strategy != "none":
        flags |= {"encoder_unique_layers": 2, "decoder_unique_layers": 2}
    check_training_and_decoding(
        lambda seed: make_speech_model(residual=scheme, seed=seed, **flags), make_speech_batch(), tmp_path
    )


@pytest.mark.parametrize("strategy", ["none", "cycle_rev"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_model_equals_its_equations(scheme, strategy):
    """Every layer of every utterance, in float64, from the output of the convolutions to the logits."""
    depths = {f"{stack}_layers": layers for stack, layers in LAYERS.items()}
    flags = {**sharing(strategy), **({"decoder_unique_layers": 2} if strategy != "none" else {})}
    model = randomize(make_speech_model(residual=scheme, **depths, **flags)).double().eval()
    net_input = make_speech_batch()["net_input"]
    net_input["src_tokens"] = net_input["src_tokens"].double()
    with torch.no_grad():
        logits, _ = model(**net_input)
        convolved, lengths = model.encoder.subsample(net_input["src_tokens"], net_input["src_lengths"])
        for utterance, length in enumerate(lengths):
            # fairseq counts positions from 2 on
            x = 4 * convolved[:length, utterance] + model.encoder.embed_positions.weights.double()[2 : 2 + length]
            target = net_input["prev_output_tokens"][utterance]
            target = target[target != 1]
            words = model.decoder.embed_tokens.weight[target]
            positions = model.decoder.embed_positions.weights.double()[2 : 2 + len(target)]
            x = run_stack(scheme, model.decoder, 4 * words + positions, run_stack(scheme, model.encoder, x))
            expected = model.decoder.output_projection(x)
            difference = (expected - logits[utterance, : len(target)]).abs().max()
            assert difference < 1e-6 * logits.abs().max().clamp(min=1)


STOCK_FLAGS = [
    {},
    {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3},
    {"conv_version": "convtransformer", "conv_out_channels": 4, "conv_channels": 1024},
    {"conv_kernel_sizes": "3,3,3", "no_scale_embedding": True, "activation_fn": "gelu"},
    {"share_decoder_input_output_embed": True, "layernorm_embedding": True},
    {"decoder_embed_dim": 24, "decoder_ffn_embed_dim": 48},
    {"encoder_freezing_updates": 1},
    {"ctc_weight": 0.3},
]


def pair_of_models(scheme, **flags):
    """fairseq's model and ours, from the same seed, with every parameter random."""
    pre_ln = scheme == "pre_ln"
    flags = {"encoder_layers": 3, "decoder_layers": 2, **flags}
    stock = make_speech_model(
        "s2t_transformer", encoder_normalize_before=pre_ln, decoder_normalize_before=pre_ln, **flags
    )
    ours = make_speech_model(residual=scheme, kernels="fairseq", **flags)
    assert list(stock.state_dict()) == list(ours.state_dict())
    for name, tensor in stock.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), f"{name} is initialized differently"
    return randomize(stock), randomize(ours)


@pytest.mark.parametrize("flags", STOCK_FLAGS, ids=lambda flags: " ".join(flags) or "default")
@pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
def test_equals_fairseq(scheme, flags):
    results = []
    for model in pair_of_models(scheme, **flags):
        batch = make_speech_batch()
        model.train()
        torch.manual_seed(5)
        logits, extra = model(**batch["net_input"])
        ctc = model.get_ctc_output((logits, extra), batch) if model.encoder.ctc_proj is not None else []
        (logits.square().sum() + sum(part.sum() for part in ctc)).backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        model.eval()
        with torch.no_grad():
            encoded = model.encoder.forward(*list(batch["net_input"].values())[:2], return_all_hiddens=True)
            full, steps = model(**batch["net_input"])[0], step_by_step_logits(model, batch)
            unpadded = make_speech_batch(padding=False)["net_input"]
            assert model.encoder(unpadded["src_tokens"], unpadded["src_lengths"])["encoder_padding_mask"] == []
            unpadded, _ = model(**unpadded)
        frozen = all(gradient is None for gradient in gradients[: len(list(model.encoder.parameters()))])
        assert frozen == ("encoder_freezing_updates" in flags)
        results.append([logits, *ctc, *gradients, *encoded["encoder_states"], *encoded["encoder_padding_mask"]])
        results[-1] += [*encoded["encoder_out"], full, steps, unpadded]
    assert len(results[0]) == len(results[1])
    for stock, ours in zip(*results, strict=True):
        assert ours is None if stock is None else torch.equal(stock, ours)


@pytest.mark.parametrize("automatic", [True, False], ids=["amp", "bf16"])
@pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
def test_equals_fairseq_in_half_precision(scheme, automatic):
    results = []
    for model in pair_of_models(scheme):
        net_input = make_speech_batch()["net_input"]
        if not automatic:
            model.bfloat16()
            net_input["src_tokens"] = net_input["src_tokens"].bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=automatic):
            encoded = model.encoder.forward(*list(net_input.values())[:2], return_all_hiddens=True)
            logits, _ = model(**net_input)
        results.append([*encoded["encoder_states"], *encoded["encoder_out"], logits])
    for stock, ours in zip(*results, strict=True):
        assert stock.dtype == ours.dtype
        assert torch.equal(stock, ours)


def test_stock_checkpoints_load():
    stock = randomize(make_speech_model("s2t_transformer"))
    ours = make_speech_model(residual="pre_ln", kernels="fairseq", seed=2)
    ours.load_state_dict(stock.state_dict())
    net_input = make_speech_batch()["net_input"]
    assert torch.equal(stock.eval()(**net_input)[0], ours.eval()(**net_input)[0])
    with pytest.raises(RuntimeError, match="encoder was trained with --residual pre_ln"):
        make_speech_model(residual="b2t").load_state_dict(ours.state_dict())
    shared = make_speech_model(residual="pre_ln", **sharing("cycle"))
    with pytest.raises(RuntimeError, match=r"(?s)encoder layers use the parameter sets 0 1 2 3 4 5.*decoder layers"):
        shared.load_state_dict(ours.state_dict())


def test_recomputed_activations_change_nothing():
    results = []
    for recompute in (False, True):
        model = make_speech_model(checkpoint_activations=recompute, dropout=0.3, **sharing("cycle_rev"))
        torch.manual_seed(5)
        loss = model(**make_speech_batch()["net_input"])[0].square().sum()
        loss.backward()
        results.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


# vocabulary 10,000, as in fairseq's recipe for LibriSpeech, whose table has these numbers (its text 31M for the first)
COUNTS = {"s": 29.5, "m": 71.2, "l": 267.8}
SIZES = {
    "b2t_s2t_transformer": (12, 6, 512, 2048, 8),
    "b2t_s2t_transformer_xs": (6, 3, 256, 1024, 4),
    "b2t_s2t_transformer_s": (12, 6, 256, 2048, 4),
    "b2t_s2t_transformer_m": (12, 6, 512, 2048, 8),
    "b2t_s2t_transformer_l": (12, 6, 1024, 4096, 16),
}


def parse(arch, *flags):
    parser = options.get_training_parser()
    return options.parse_args_and_arch(parser, ["data", "--task", "speech_to_text", "--arch", arch, *flags])


def test_architectures():
    assert sorted(ARCH_MODEL_INV_REGISTRY["b2t_s2t_transformer"]) == sorted(SIZES)
    for arch, (encoder_layers, decoder_layers, width, ffn, heads) in SIZES.items():
        args, stock = parse(arch), parse(arch.removeprefix("b2t_"))
        assert (args.encoder_layers, args.decoder_layers) == (encoder_layers, decoder_layers)
        for stack in ("encoder", "decoder"):
            assert getattr(args, f"{stack}_embed_dim") == width
            assert getattr(args, f"{stack}_ffn_embed_dim") == ffn
            assert getattr(args, f"{stack}_attention_heads") == heads
            assert not getattr(args, f"{stack}_normalize_before")
        # nothing else differs but what this plugin adds
        ours, theirs = vars(args), vars(stock)
        assert args.residual == "b2t"
        changed = {name for name in theirs if name in ours and ours[name] != theirs[name]}
        assert changed == {"arch", "encoder_normalize_before", "decoder_normalize_before"}


def test_flags_are_fairseqs_and_our_own():
    def flags(arch):
        parser = options.get_training_parser()
        options.parse_args_and_arch(parser, ["data", "--task", "speech_to_text", "--arch", arch])
        group = next(g for g in parser._action_groups if g.title == "Model-specific configuration")
        return {option for action in group._group_actions for option in action.option_strings}

    assert flags("s2t_transformer") < flags("b2t_s2t_transformer")
    assert flags("b2t_s2t_transformer") - flags("s2t_transformer") == {
        "--residual",
        "--layer-sharing",
        "--encoder-unique-layers",
        "--decoder-unique-layers",
        "--decoder-word-dropout",
        "--depth-scaled-init",
        "--kernels",
        "--compile",
        "--admin-profile",
    }


@pytest.mark.parametrize(("size", "millions"), COUNTS.items())
def test_parameter_counts(size, millions):
    def count(**flags):
        args = parse(f"b2t_s2t_transformer_{size}", "--share-decoder-input-output-embed")
        vars(args).update(input_feat_per_channel=80, input_channels=1, **flags)
        with torch.device("meta"):
            model = ARCH_MODEL_REGISTRY[args.arch].build_model(args, task)
        return sum(parameter.numel() for parameter in model.parameters())

    task = make_speech_task(num_words=10000 - 4)
    assert f"{count() / 1e6:.1f}" == f"{millions}"
    shared = {"layer_sharing": "cycle", "encoder_unique_layers": 12, "decoder_unique_layers": 6}
    assert count(encoder_layers=24, decoder_layers=12, **shared) == count()


def test_initializations_reach_both_stacks():
    plain, fixed = make_speech_model(residual="post_ln"), make_speech_model(residual="t_fixup")
    assert torch.equal(fixed.decoder.embed_tokens.weight, plain.decoder.embed_tokens.weight * 54**-0.25)
    assert torch.equal(fixed.encoder.subsample.conv_layers[0].weight, plain.encoder.subsample.conv_layers[0].weight)
    bound = 0.67 * 6**-0.25 * (6 / 48) ** 0.5  # Xavier's for 16 to 32
    largest = fixed.encoder.layers[0].fc1.weight.abs().max().item()
    assert 0.9 * bound < largest <= bound
    scaled = make_speech_model(residual="post_ln", depth_scaled_init=True)
    for stack in ("encoder", "decoder"):
        for ours, theirs in zip(getattr(scaled, stack).layers, getattr(plain, stack).layers, strict=True):
            assert torch.equal(ours.self_attn.q_proj.weight, theirs.self_attn.q_proj.weight * 6**-0.5)


def test_admin_is_profiled():
    model = make_speech_model(residual="admin", **sharing("cycle")).train()
    admin_profile.measure(model, make_speech_batch()["net_input"])
    assert admin_profile.is_profiled(model)
    for stack in (model.encoder, model.decoder):
        omegas = torch.stack([omega[0] for layer in stack.layers for omega in layer.residual.omega])
        assert omegas[0] == 1
        # what the stack adds up grows; the output of the convolutions itself is small
        assert (omegas[1:].diff() > 0).all()


def test_word_dropout_is_the_decoders():
    model = make_speech_model(decoder_word_dropout=0.9).train()
    batch = make_speech_batch()["net_input"]
    assert torch.equal(*(model.encoder(batch["src_tokens"], batch["src_lengths"])["encoder_out"][0] for _ in range(2)))
    assert not torch.equal(*(model(**batch)[0] for _ in range(2)))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"encoder_normalize_before": True}, ["--encoder-normalize-before", "--residual b2t", "pre_ln"]),
        ({"layer_sharing": "cycle", "encoder_unique_layers": 4}, ["--encoder-unique-layers", "4", "6 layers"]),
        ({"encoder_word_dropout": 0.1}, ["--encoder-word-dropout 0.1", "speech"]),
        ({"dropout": 1.0}, ["--dropout 1.0"]),
        ({"conv_kernel_sizes": "5,4"}, ["--conv-kernel-sizes 5,4", "odd"]),
        ({"conv_kernel_sizes": "five"}, ["--conv-kernel-sizes five", "5,5"]),
        ({"conv_out_channels": 16}, ["--conv-out-channels 16 has no effect with --conv-version s2t_transformer"]),
        ({"conv_version": "convtransformer"}, ["--conv-channels 16 has no effect with --conv-version convtransformer"]),
        ({"conv_channels": 15}, ["--conv-channels 15", "even"]),
        ({"residual": "mix_ln", "decoder_layers": 3}, ["--decoder-layers 3", "mix_ln"]),
        (
            {"residual": "admin", "load_pretrained_encoder_from": "other.pt"},
            ["--load-pretrained-encoder-from other.pt", "--residual admin"],
        ),
        ({"load_pretrained_encoder_from": "nowhere.pt"}, ["--load-pretrained-encoder-from", "nowhere.pt"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_refused(flags, words):
    with pytest.raises(InputError) as error:
        make_speech_model(**flags)
    assert all(word in str(error.value) for word in words), error.value


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set in fairseq's format for speech: each word is a vector of its own, for some noisy frames."""
    folder = tmp_path_factory.mktemp("a speech")
    (folder / "features").mkdir()
    noise = np.random.default_rng(0)
    sounds = noise.normal(size=(8, MELS))
    (folder / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(8)))
    config = f"audio_root: {folder / 'features'}\nvocab_filename: dict.txt\ninput_feat_per_channel: {MELS}\n"
    (folder / "config.yaml").write_text(config + "feature_transforms: {'*': [utterance_cmvn]}\n")
    (folder / "masked.yaml").write_text(
        config + "feature_transforms: {_train: [utterance_cmvn, specaugment], _eval: [utterance_cmvn]}\n"
        "specaugment: {freq_mask_N: 1, freq_mask_F: 8, time_mask_N: 1, time_mask_T: 4, time_mask_p: 1.0}\n"
    )
    for split, utterances in (("train", 24), ("dev", 6), ("test", 11)):
        rows = ["id\taudio\tn_frames\ttgt_text\tspeaker"]
        for utterance in range(utterances):
            words = noise.integers(8, size=noise.integers(2, 6))
            frames = np.repeat(sounds[words], noise.integers(6, 12, size=len(words)), axis=0)
            name = f"{split}{utterance}.npy"
            np.save(folder / "features" / name, (frames + noise.normal(size=frames.shape)).astype("float32"))
            text = " ".join(f"w{word}" for word in words)
            rows.append(f"{split}{utterance}\t{name}\t{len(frames)}\t{text}\tspeaker")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    return str(folder)


MODEL = [
    *("--task", "speech_to_text", "--arch", "b2t_s2t_transformer_s", "--conv-channels", "16", "--dropout", "0.1"),
    *("--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32", "--encoder-layers", "4", "--decoder-layers", "4"),
    *("--layer-sharing", "cycle_rev", "--encoder-unique-layers", "2", "--decoder-unique-layers", "2"),
]
TRAINING = [
    *("--user-dir", PLUGIN, "--cpu", "--seed", "7", "--num-workers", "0", "--max-tokens", "400"),
    *("--train-subset", "train", "--valid-subset", "dev", "--required-batch-size-multiple", "1"),
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
    *("--optimizer", "adam", "--lr", "0.01", "--lr-scheduler", "inverse_sqrt", "--warmup-updates", "4"),
    *("--clip-norm", "10.0", "--no-progress-bar"),
]


def train(data, save_dir, *flags, command=b2t_train):
    """Train in this process, by ``b2t train`` or by fairseq-train's own main function."""
    if hasattr(checkpoint_utils.save_checkpoint, "best"):
        del checkpoint_utils.save_checkpoint.best  # fairseq keeps it between runs of one process
    argv = [data, *MODEL, *TRAINING, "--save-dir", str(save_dir), *flags]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairseq-train", *argv])
        command(argv) if command is b2t_train else command()
    return load(save_dir / "checkpoint_last.pt")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, train(data, folder, "--max-update", "8", command=fairseq_train.cli_main)


def generated(output):
    """The hypotheses in the output of fairseq-generate by number."""
    lines = [line.split("\t") for line in output.splitlines() if line.startswith("D-")]
    return {int(number[2:]): text for number, _, text in lines}


def test_all_utterances_are_transcribed(data, run, tmp_path, capsys):
    """A text for each, by fairseq-generate from the last checkpoint, by b2t generate from an average."""
    folder, state = run
    assert state["cfg"]["model"].residual == "b2t"
    argv = [data, "--user-dir", PLUGIN, "--task", "speech_to_text", "--path", str(folder / "checkpoint_last.pt")]
    argv += ["--gen-subset", "test", "--beam", "3", "--cpu", "--max-tokens", "500"]
    argv += ["--required-batch-size-multiple", "1", "--max-len-b", "20", "--no-progress-bar", "--num-workers", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairseq-generate", *argv])
        fairseq_generate.cli_main()
    output = capsys.readouterr().out
    assert sorted(generated(output)) == list(range(11))
    averaged = str(tmp_path / "averaged.pt")
    b2t_average([str(folder), "--last", "2", "--output", averaged])
    b2t_generate([averaged if word.endswith("checkpoint_last.pt") else word for word in argv])
    assert sorted(generated(capsys.readouterr().out)) == list(range(11))


def test_resumed_is_uninterrupted(data, run, tmp_path):
    """By b2t train, in the middle of the second epoch; a finished run is left alone."""
    train(data, tmp_path, "--max-update", "4")
    resumed = train(data, tmp_path, "--max-update", "8")
    assert_same_model(run[1], resumed)
    written = (tmp_path / "checkpoint_last.pt").stat().st_mtime_ns
    train(data, tmp_path, "--max-update", "8")
    assert (tmp_path / "checkpoint_last.pt").stat().st_mtime_ns == written


@pytest.mark.parametrize("to", ["stock", "safetensors"])
def test_it_is_not_converted(run, tmp_path, to):
    with pytest.raises(InputError, match=r"model b2t_s2t_transformer_s; only translation models"):
        b2t_convert([str(run[0] / "checkpoint_last.pt"), str(tmp_path / "out"), "--to", to])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--residual", "pre_ln"], "residual B2T there, Pre-LN here"),
        (["--conv-kernel-sizes", "3,3"], "conv_kernel_sizes 5,5 there, 3,3 here"),
        (["--encoder-unique-layers", "4"], "encoder_unique_layers 2 there, 4 here"),
    ],
)
def test_another_run_is_refused(data, run, flags, words):
    with pytest.raises(InputError, match=words):
        train(data, run[0], "--max-update", "9", *flags)


def test_a_pretrained_encoder(data, run, tmp_path, caplog):
    """Read before the first update and frozen; from then on the run's own checkpoint has it."""
    pretrained = tmp_path / "pretrained.pt"
    torch.save(run[1], pretrained)
    flags = ["--load-pretrained-encoder-from", str(pretrained), "--encoder-freezing-updates", "9", "--seed", "8"]
    state = train(data, tmp_path / "run", "--max-update", "2", *flags)
    for name, tensor in run[1]["model"].items():
        if name.startswith("encoder."):
            assert torch.equal(state["model"][name], tensor), name
    pretrained.unlink()
    models, _ = checkpoint_utils.load_model_ensemble([str(tmp_path / "run/checkpoint_last.pt")])
    assert_same_model({"model": models[0].state_dict()}, state)
    torch.save(run[1], pretrained)
    with pytest.raises(InputError, match=r"(?s)cannot be used.*trained with --residual b2t"):
        train(data, tmp_path / "other", "--max-update", "2", *flags, "--residual", "post_ln")


def test_admin_runs(data, tmp_path, caplog):
    """Profiled on the first batch, which fairseq's task has collated."""
    caplog.set_level("INFO")
    state = train(data, tmp_path, "--max-update", "1", "--residual", "admin")
    assert "Admin: profiled on the first batch" in caplog.text
    assert state["model"]["encoder.transformer_layers.3.residual.profiled"] == 1


def test_the_fused_criterion_trains_the_same(data, run, tmp_path):
    state = train(data, tmp_path, "--max-update", "8", "--criterion", "label_smoothed_cross_entropy_fused")
    assert state["extra_state"]["val_loss"] == pytest.approx(run[1]["extra_state"]["val_loss"], abs=0.002)


def test_ctc_and_masked_features(data, tmp_path):
    """fairseq's criterion that also trains a CTC output of the encoder, on features masked by SpecAugment."""
    criterion = ["--criterion", "label_smoothed_cross_entropy_with_ctc", "--ctc-weight", "0.3"]
    state = train(data, tmp_path, "--max-update", "1", "--config-yaml", "masked.yaml", *criterion)
    assert state["model"]["encoder.ctc_proj.weight"].shape == (12, 16)
