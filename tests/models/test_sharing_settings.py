"""The flags of sharing on the command line, in YAML files, in runs and in what reads a run."""

import pytest
import torch
from analysis import analyzed, loss_of, translation
from fairseq.dataclass.initialize import add_defaults, hydra_init
from flags import parse
from helpers import ROOT, make_batch, make_model, model_settings, randomize
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from training import assert_same_model, train

from b2t_cli import main as b2t
from b2t_cli.conversion import export
from b2t_cli.conversion.stock import to_stock
from b2t_cli.runs.checkpoint_model import describe, model_of_checkpoint
from b2t_cli.train import main as b2t_train
from b2t_common.model_line import parse_model_line
from b2t_fairseq.checkpoints import differing_settings
from b2t_fairseq.settings.fields import as_namespace
from b2t_fairseq.settings.plan import plan_translation

FLAGS = ["--layer-sharing", "0,1,1,0", "--share-sublayers", "feed_forward", "--no-share-norms"]
TEXT = "0,1,1,0 --share-sublayers feed_forward --no-share-norms"


def test_flags_reach_the_plan():
    depths = ["--encoder-layers", "4", "--decoder-layers", "3"]
    cfg = parse("--arch", "b2t_transformer", *FLAGS[2:], *depths, "--layer-sharing", "0,1,1,0/0,0,1")
    plan = plan_translation(cfg)
    assert [stack.indices for stack in plan.stacks] == [(0, 1, 1, 0), (0, 0, 1)]
    assert [stack.sharing.sublayers for stack in plan.stacks] == [("feed_forward",)] * 2
    assert plan.sharing_flags == "0,1,1,0/0,0,1 --share-sublayers feed_forward --no-share-norms"


@pytest.mark.parametrize(("flags", "shared"), [([], True), (["--share-norms"], True), (["--no-share-norms"], False)])
@pytest.mark.parametrize("arch", [["b2t_transformer"], ["b2t_transformer_lm", "--task", "language_modeling"]])
def test_norms_are_shared_unless_told_otherwise(arch, flags, shared):
    assert as_namespace(parse("--arch", *arch, *flags)).share_norms == shared


def test_a_list_is_a_key_of_a_yaml_file(tmp_path):
    """And a value on the command line of fairseq-hydra-train, in quotes of its own."""
    text = (ROOT / "configs/hydra/b2t_cycle_rev.yaml").read_text(encoding="utf-8")
    listed = text.replace("layer_sharing: cycle_rev", "layer_sharing: 0,1,1,0\n  share_norms: false")
    listed = listed.replace("_layers: 12", "_layers: 4").replace("_unique_layers: 6", "_unique_layers: null")
    (tmp_path / "listed.yaml").write_text(listed, encoding="utf-8")
    folders = ["task.data=data", "checkpoint.save_dir=run"]
    plans = []
    for overrides in ([], ["model.layer_sharing='0,0,1,1/none'", "+model.share_sublayers=attention"]):
        hydra_init("listed")
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(tmp_path), version_base="1.1"):
            cfg = compose("listed", [*folders, *overrides])
        add_defaults(cfg)
        plans.append(plan_translation(cfg.model))
    assert [plan.sharing_flags for plan in plans] == [
        "0,1,1,0 --no-share-norms",
        "0,0,1,1/none --share-sublayers attention --no-share-norms",
    ]
    assert plans[1].stack("encoder").indices == (0, 0, 1, 1)


def test_a_run_with_a_list_is_resumed_averaged_and_described(data, tmp_path, caplog):
    """Each shared parameter is written once; the log and the checkpoint say how the layers share."""
    flags = [*FLAGS, "--share-encoder-decoder"]
    whole = train(data, tmp_path / "whole", *flags, "--max-epoch", "2", command=b2t_train)
    with caplog.at_level("INFO"):
        train(data, tmp_path / "parts", *flags, "--max-epoch", "1", command=b2t_train)
    *_, line = filter(None, map(parse_model_line, caplog.messages))
    assert line.layer_sharing == f"{TEXT} --share-encoder-decoder"
    state = train(data, tmp_path / "parts", *flags, "--max-epoch", "2", command=b2t_train)
    assert_same_model(whole, state)
    model = state["model"]
    names = [f"{stack}.layers.{depth}.fc1.weight" for stack in ("encoder", "decoder") for depth in range(4)]
    assert len({model[name].data_ptr() for name in names}) == 2
    assert len({model[name.replace("fc1", "final_layer_norm")].data_ptr() for name in names}) == 8
    read = model_of_checkpoint(state)
    assert (read.sharing, read.parameters) == (line.layer_sharing, line.parameters)
    assert describe(state)["settings"]["share_encoder_decoder"] is True
    averaged = tmp_path / "averaged.pt"
    assert b2t(["average", str(tmp_path / "parts"), "--last", "2", "--output", str(averaged)]) == 0
    mean = torch.load(averaged, weights_only=True)["model"]
    assert len({mean[name].data_ptr() for name in names}) == 2
    assert differing_settings({"share_norms": True}, {"share_norms": False}) == {"share_norms": (True, False)}


@pytest.mark.parametrize(
    "flags",
    [
        {"layer_sharing": "0,1,1,1,1,2", "share_sublayers": "feed_forward", "share_norms": False},
        {"layer_sharing": "0,1,0,1,0,1", "share_encoder_decoder": True},
    ],
    ids=str,
)
def test_every_kind_is_converted(tmp_path, flags):
    """fairseq's own model has the same logits and nothing shared; safetensors hold each parameter once."""
    flags = {"residual": "post_ln", **flags}
    model = randomize(make_model(**flags)).eval()
    settings = as_namespace(model_settings(**flags))
    state = {"cfg": {"model": settings, "task": {"_name": "translation"}}, "model": model.state_dict()}
    converted, _ = to_stock(state)
    stock = make_model("transformer")
    stock.load_state_dict(converted["model"])
    batch = make_batch()["net_input"]
    with torch.no_grad():
        assert (stock.eval()(**batch)[0] - model(**batch)[0]).abs().max() < 1e-5
    pytest.importorskip("safetensors")
    export.save(state, tmp_path / "model")
    loaded = export.load(tmp_path / "model")
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(loaded(**batch)[0], model(**batch)[0])


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ({"share_sublayers": "feed_forward", "share_norms": False}, ("fc1.", "fc2.")),
        ({"share_encoder_decoder": True}, ("self_attn", "encoder_attn", "fc1.", "fc2.", "final_layer_norm.")),
    ],
)
def test_the_gradient_of_a_set_is_that_of_what_its_layers_share(flags, names):
    """Each layer has a gradient of its own, though both stacks may use the set."""
    sharing = {"layer_sharing": "0,1,0,1", "decoder_layers": 4, **flags}
    shared, batches = translation(**sharing)
    untied, _ = translation(decoder_layers=4)
    untied.load_state_dict(dict(shared.state_dict()))  # without the record of the sharing
    result = analyzed(shared, batches)
    sum(loss_of(untied, batch) for batch in batches).backward()
    for stack in ("encoder", "decoder"):
        for one in result["stacks"][stack]["sets"]:
            gradients = [
                torch.cat([p.grad.flatten() for name, p in layer.named_parameters() if name.startswith(names)])
                for layer in (getattr(untied, stack).layers[number - 1] for number in one["layers"])
            ]
            expected = sum(gradients).norm().item() / result["tokens"]
            assert one["gradient"] == pytest.approx(expected, rel=1e-9)
