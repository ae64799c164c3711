"""The fused optimizer gives fairseq's numbers: steps, checkpoints in both directions, and whole runs."""

import shutil

import pytest
import torch
from fairseq.optim import MemoryEfficientFP16Optimizer, build_optimizer
from fairseq.optim.adam import Adam
from omegaconf import OmegaConf
from training import SHARED, assert_same_model, train

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.kernels import adam
from b2t_fairseq.kernels.adam import FusedAdam


def settings(name="adam_fused", **changes):
    given = {"adam_betas": "(0.9, 0.98)", "adam_eps": 1e-8, "weight_decay": 0.0, "lr": [0.1], "tpu": False}
    return OmegaConf.create({"_name": name, **given, **changes})


def parameters(dtype=torch.float32):
    """The last ones have gradients from step to step, never, and another order in memory."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (40,), (), (0,), (3,), (2,), (6, 4)]
    values = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    values[-1] = values[-1].t()
    return [torch.nn.Parameter(value) for value in values]


def take_steps(optimizer, parameters, steps):
    """Steps with gradients that depend on the step only, and a learning rate that changes."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.set_lr(0.01 / (1 + step) ** 0.5)
        for index, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            given = index != 5 and (index != 4 or step % 3 == 1)
            # dense, but never in the parameter's own order
            parameter.grad = gradient.t().contiguous().t() if given and gradient.dim() == 2 else gradient
            if not given:
                parameter.grad = None
        optimizer.step()


def assert_close(first, second, **tolerance):
    for ours, theirs in zip(first, second, strict=True):
        assert torch.allclose(ours.float(), theirs.float(), **tolerance)


def averages(optimizer):
    state = optimizer.state_dict()["state"]
    return [state[index][name] for index in sorted(state) for name in ("exp_avg", "exp_avg_sq")]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("adam_eps", [1e-8, 1e-2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_fairseq(weight_decay, adam_eps, dtype):
    """To rounding, whatever epsilon is, from the first step on and with parameters of different ages."""
    ours, theirs = parameters(dtype), parameters(dtype)
    changes = {"weight_decay": weight_decay, "adam_eps": adam_eps}
    fused, stock = build_optimizer(settings(**changes), ours), build_optimizer(settings("adam", **changes), theirs)
    assert type(fused.optimizer) is FusedAdam
    for step in range(30):
        take_steps(fused, ours, [step])
        take_steps(stock, theirs, [step])
        assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert_close(averages(fused), averages(stock), rtol=1e-5, atol=1e-7)
    assert not torch.equal(ours[0], parameters(dtype)[0])
    assert torch.equal(ours[5], parameters(dtype)[5])


@pytest.mark.parametrize("names", [("adam", "adam_fused"), ("adam_fused", "adam"), ("adam_fused", "adam_fused")])
def test_state_to_and_fro(names):
    """Ten steps by one and ten by the other are twenty by fairseq's; the state has the same form."""
    changes = {"weight_decay": 0.01, "adam_eps": 1e-3}
    whole, parts = parameters(), parameters()
    stock = build_optimizer(settings("adam", **changes), whole)
    take_steps(stock, whole, range(20))
    first, second = (build_optimizer(settings(name, **changes), parts) for name in names)
    take_steps(first, parts, range(10))
    second.load_state_dict(first.state_dict())
    take_steps(second, parts, range(10, 20))
    assert_close(parts, whole, rtol=1e-6, atol=1e-6)
    state, expected = second.state_dict(), stock.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    for index, values in expected["state"].items():
        assert {key: type(value) for key, value in state["state"][index].items()} == {
            key: type(value) for key, value in values.items()
        }
        assert state["state"][index]["step"] == values["step"]


def test_memory_efficient_half_precision():
    """Parameters in bfloat16 with averages in float32, also after loading."""
    cfg = {"common": {"bf16": True, "fp16_scale_window": 1}}
    results = []
    for name in ("adam", "adam_fused"):
        values = parameters(torch.bfloat16)
        whole = OmegaConf.create({**cfg, "optimizer": settings(name)})
        first, second = (MemoryEfficientFP16Optimizer.build_optimizer(whole, values) for _ in range(2))
        take_steps(first, values, range(10))
        second.load_state_dict(first.state_dict())
        take_steps(second, values, range(10, 20))
        results.append((values, averages(second)))
    (theirs, their_averages), (ours, our_averages) = results
    assert {average.dtype for average in our_averages} == {torch.float32}
    assert_close(our_averages, their_averages, rtol=1e-5, atol=1e-7)
    # a value between two of bfloat16 may be rounded to either
    assert_close(ours, theirs, rtol=2**-7)


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, [7]), (torch.bfloat16, [1] * 7)])
def test_number_of_calls(monkeypatch, dtype, expected):
    """One for all parameters, but one float32 copy at a time in half precision."""
    calls = []
    adamw = adam.adamw

    def counted(values, *arguments, **settings):
        calls.append(len(values))
        adamw(values, *arguments, **settings)

    monkeypatch.setattr(adam, "adamw", counted)
    values = parameters(dtype)
    optimizer = build_optimizer(settings(), values)
    for value in values:
        value.grad = torch.ones_like(value)
    optimizer.step()
    assert calls == expected


# epsilon keeps gradients that are zero but for rounding, such as that of a key's bias, from being blown up
RUN = [*SHARED, "--adam-eps", "1e-3", "--weight-decay", "0.01", "--update-freq", "2", "--no-epoch-checkpoints"]


def run(data, folder, name, updates, *flags, **how):
    return train(data, folder, *RUN, *flags, "--optimizer", name, "--max-update", str(updates), **how)


def test_a_run_is_the_same_and_goes_on(data, tmp_path):
    """With tied parameters and two batches an update; stopped in the middle, either goes on where the other was."""
    stock, fused = run(data, tmp_path / "adam", "adam", 8), run(data, tmp_path / "fused", "adam_fused", 8)
    assert_same_model(fused, stock, tolerance=1e-5)
    names = [state["optimizer_history"][-1]["optimizer_name"] for state in (stock, fused)]
    assert names == ["FairseqAdam", "FairseqAdam"]
    run(data, tmp_path / "half", "adam_fused", 5)
    shutil.copytree(tmp_path / "half", tmp_path / "half again")
    resumed = run(data, tmp_path / "half", "adam_fused", 8)
    assert_same_model(resumed, fused)
    for index, values in fused["last_optimizer_state"]["state"].items():
        for key, value in values.items():
            again = resumed["last_optimizer_state"]["state"][index][key]
            assert torch.equal(torch.as_tensor(again), torch.as_tensor(value))
    assert_same_model(run(data, tmp_path / "half again", "adam", 8), stock, tolerance=1e-5)
    run(data, tmp_path / "other half", "adam", 5)
    assert_same_model(run(data, tmp_path / "other half", "adam_fused", 8), stock, tolerance=1e-5)


@pytest.mark.parametrize("flags", [["--bf16"], ["--bf16", "--memory-efficient-bf16"]], ids=["copies", "none"])
def test_bf16_runs(data, tmp_path, flags):
    states = [run(data, tmp_path / name, name, 6, *flags, command=b2t_train) for name in ("adam", "adam_fused")]
    assert states[1]["extra_state"]["val_loss"] == pytest.approx(states[0]["extra_state"]["val_loss"], rel=0.01)
    # a few roundings of bfloat16, which the forward pass passes on
    assert_same_model(*states, tolerance=0.01)
    state = states[1]["last_optimizer_state"]["state"]
    assert {values["exp_avg"].dtype for values in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    "betas",
    [
        *("0.9", "(0.9,)", "(0.9, 1.0)", "(-0.1, 0.9)", "(0.9, 0.98, 0.99)", "('a', 'b')", "{0.9, 0.98}", "0.9 0.98"),
        *("", "__import__('pathlib').Path('evaluated').touch() or (0.9, 0.98)"),
    ],
)
def test_wrong_betas(tmp_path, monkeypatch, betas):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        build_optimizer(settings(adam_betas=betas), parameters())
    assert f"--adam-betas {betas}: give two numbers" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_wrong_betas_on_the_command_line(data, tmp_path):
    with pytest.raises(InputError, match=r"--adam-betas \(0\.9, 98\): give two numbers"):
        train(data, tmp_path, *SHARED, "--optimizer", "adam_fused", "--adam-betas", "(0.9, 98)")


def test_betas_as_a_list():
    """So they come from a YAML file, and by default."""
    optimizer = build_optimizer(settings(adam_betas=[0, 0.5]), parameters())
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.5)


def test_devices_without_a_kernel(monkeypatch, caplog):
    def missing(*_, **__):
        raise RuntimeError("fused=True requires another device")

    monkeypatch.setattr(adam, "AdamW", missing)
    caplog.set_level("INFO")
    optimizer = build_optimizer(settings(), parameters())
    assert type(optimizer.optimizer) is Adam
    assert "torch has no fused AdamW for cpu; using fairseq's Adam" in caplog.text


def test_tpu_is_left_to_fairseq():
    assert type(build_optimizer(settings(tpu=True), parameters()).optimizer) is Adam


@pytest.mark.parametrize("flag", ["use_old_adam", "fp16_adam_stats"])
def test_flags_of_other_implementations_are_refused(flag):
    with pytest.raises(InputError, match=f"--{flag.replace('_', '-')} is not for --optimizer adam_fused"):
        build_optimizer(settings(**{flag: True}), parameters())


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match=r"size \(4, 2\) has a sparse gradient"):
        build_optimizer(settings(), [table.weight]).step()


def test_closure():
    """fairseq may pass one, and expects its result."""
    values = parameters()
    assert build_optimizer(settings(), values).optimizer.step(lambda: 3.5) == 3.5
