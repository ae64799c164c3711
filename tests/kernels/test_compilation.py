"""``--compile`` compiles each stack once, and gives the same numbers."""

import pytest
import torch
from checks import assert_close, logits_and_gradients
from helpers import make_batch, make_model, randomize

from b2t_common.errors import InputError
from b2t_fairseq import admin_profile
from b2t_fairseq.kernels import compilation
from b2t_fairseq.kernels.compilation import CompiledInTraining
from b2t_fairseq.normalization import NORMS
from benchmarks.trainers import build_trainer, quiet


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    """Compile without generating code, which takes a minute; PyTorch captures the same graphs."""
    monkeypatch.setattr(CompiledInTraining, "is_unavailable", False)
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **flags: compile_with(self, backend="aot_eager", **flags)
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def test_one_graph_for_each_stack_gives_the_same_numbers():
    """Batches of other lengths and other numbers of sentences use the same graph."""
    plain, compiled = (randomize(make_model(compile=on)).train() for on in (False, True))
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for seed, sentences in enumerate((3, 2, 3)):
        batch = make_batch(seed=seed)
        batch["net_input"] = {name: tensor[:sentences] for name, tensor in batch["net_input"].items()}
        batch["target"] = batch["target"][:sentences]
        results = []
        for model in (plain, compiled):
            model.zero_grad()
            results.append(logits_and_gradients(model, batch))
        assert_close(*results)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def capture_with(backend, model):
    """Let the layers of a model be compiled by another backend; to count graphs, none needs to be made faster."""
    for layer in (*model.encoder.layer_list(), *model.decoder.layer_list()):
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend=backend, dynamic=True)


def test_two_epochs_compile_four_graphs(data, tmp_path):
    """A stack has one with and one without a mask; the first batch is as long as it has sentences, others are not."""
    flags = ["--arch", "b2t_transformer_tiny", "--compile", "--max-tokens", "40", "--required-batch-size-multiple", "1"]
    flags += ["--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "32", "--encoder-layers", "1", "--dropout", "0.1"]
    flags += ["--criterion", "label_smoothed_cross_entropy_fused", "--optimizer", "adam_fused"]
    with quiet():
        trainer = build_trainer(data, [*flags, "--save-dir", str(tmp_path)], "cpu")
        capture_with("eager", trainer.get_model())
        epochs = trainer.get_train_iterator(epoch=1)
        trainer.begin_epoch(1)
        shapes = []
        for _ in range(2):
            for batch in epochs.next_epoch_itr(shuffle=True):
                shapes.append((*batch["net_input"]["src_tokens"].shape, batch["target"].size(1)))
                trainer.train_step([batch])
    assert len(set(shapes[0])) == 1
    assert len(set(shapes)) > 5
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 4


def test_data_parallelism_leaves_one_graph_for_each_stack(monkeypatch, tmp_path):
    """PyTorch would cut a layer's graph where a bucket of gradients is full; here a bucket is smaller than a layer."""
    compiled = []

    def backend(graph, _inputs):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.distributed, "_DEFAULT_FIRST_BUCKET_BYTES", 1024)
    model = randomize(make_model(compile=True, encoder_layers=2, decoder_layers=2)).train()
    capture_with(backend, model)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.002)
        parallel(**make_batch()["net_input"])[0].square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert len(compiled) == 2


@pytest.mark.parametrize("scheme", ["admin", "ln_scaling", "mix_ln", "resi_dual", "branch_norm"])
def test_layers_of_all_depths_share_a_graph(scheme):
    """Schemes that depend on the depth must not need a graph for each layer: PyTorch gives up after eight."""
    model = randomize(make_model(compile=True, residual=scheme, encoder_layers=4, decoder_layers=4)).train()
    capture_with("eager", model)
    if scheme == "admin":
        # The pass that measures the profile compiles nothing.
        admin_profile.measure(model, make_batch()["net_input"])
        assert not torch._dynamo.utils.counters["stats"]
    for update in range(2):
        # BranchNorm's weight changes with every update.
        model.set_num_updates(update)
        model(**make_batch()["net_input"])
    # Mix-LN has two kinds of layers in each stack.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (4 if scheme == "mix_ln" else 2)


@pytest.mark.parametrize("name", [name for name in NORMS if NORMS[name].is_compilable])
def test_a_norm_is_a_part_of_its_layers_graph(name):
    norm = NORMS[name].build(16, 4)
    compiled = torch.compile(norm, backend="eager", dynamic=True, fullgraph=True)
    x = torch.randn(5, 3, 16)
    assert torch.allclose(compiled(x), norm(x), atol=1e-6)


class LinearAndNorm(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.linear, self.norm = torch.nn.Linear(16, 16), NORMS[name].build(16, 4)

    def forward(self, x):
        return self.norm(self.linear(x))


def test_a_norm_that_is_not_compiled_gives_the_same_numbers():
    """PowerNorm keeps statistics of what it gets, in the backward pass too."""
    results = []
    for on in (False, True):
        layer = randomize(LinearAndNorm("power_norm"))
        if on:
            compilation.compile_layers([layer])
        x = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
        output = layer(x)
        output.square().sum().backward()
        results.append((output, x.grad, layer.norm.sums))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for plain, compiled in zip(*results, strict=True):
        assert torch.allclose(plain, compiled, rtol=1e-5, atol=1e-5)


def test_only_training_is_compiled():
    model = make_model(compile=True).eval()
    with torch.no_grad():
        model(**make_batch()["net_input"])
    assert not torch._dynamo.utils.counters["stats"]


def test_training_goes_on_without_a_compiler(monkeypatch, caplog):
    class Failure(Exception):
        pass

    def fail(*args, **kwargs):
        raise Failure("no compiler\nand why")

    monkeypatch.setattr(compilation, "_failures", lambda: (Failure,))
    plain, compiled = (randomize(make_model(compile=on)).train() for on in (False, True))
    for layer in (*compiled.encoder.layers, *compiled.decoder.layers):
        layer._compiled_call_impl = fail
    logits = [model(**make_batch()["net_input"])[0] for model in (plain, compiled)]
    assert torch.equal(*logits)
    warnings = [record.getMessage() for record in caplog.records if "--compile" in record.getMessage()]
    assert warnings == ["--compile: this machine cannot compile (no compiler); training goes on without"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"kernels": "fairseq"}, "--compile cannot work with --kernels fairseq"),
        ({"checkpoint_activations": True}, "--compile cannot work with --checkpoint-activations"),
    ],
)
def test_flags_that_cannot_be_compiled_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        make_model(compile=True, **flags)
