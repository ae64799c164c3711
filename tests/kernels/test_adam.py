"""The fused optimizer gives fairseq's numbers in single steps and in whole runs, and reads fairseq's state."""

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
    """Return parameters of various shapes.

    See :func:`take_steps`: the fifth has a gradient in some steps only, the sixth in none. The seventh is transposed in
    memory.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (40,), (), (0,), (3,), (2,), (6, 4)]
    values = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    values[-1] = values[-1].t()
    return [torch.nn.Parameter(value) for value in values]


def take_steps(optimizer, parameters, steps):
    """Take steps with gradients that depend on the number of the step only, and with a falling learning rate."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.set_lr(0.01 / (1 + step) ** 0.5)
        for index, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            given = index != 5 and (index != 4 or step % 3 == 1)
            # Gradients of matrices have another order in memory than their parameters.
            parameter.grad = gradient.t().contiguous().t() if given and gradient.dim() == 2 else gradient
            if not given:
                parameter.grad = None
        optimizer.step()


def assert_close(first, second, **tolerance):
    for ours, theirs in zip(first, second, strict=True):
        assert torch.allclose(ours.float(), theirs.float(), **tolerance)


def averages(optimizer):
    """Return the running averages of all parameters."""
    state = optimizer.state_dict()["state"]
    return [state[index][name] for index in sorted(state) for name in ("exp_avg", "exp_avg_sq")]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("adam_eps", [1e-8, 1e-2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_fairseq(weight_decay, adam_eps, dtype):
    """They agree to rounding, whatever epsilon is, with parameters that have taken different numbers of steps."""
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
def test_either_optimizer_goes_on_from_the_others_state(names):
    """Ten steps of each are twenty steps of fairseq's; the state has the same form."""
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


def test_memory_efficient_half_precision_gives_fairseqs_numbers():
    """Parameters are in bfloat16 and averages in float32, also after loading."""
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
    # A value between two numbers of bfloat16 may be rounded to either.
    assert_close(ours, theirs, rtol=2**-7)


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, [7]), (torch.bfloat16, [2, 4, 1])])
def test_all_parameters_are_updated_in_one_call(monkeypatch, dtype, expected):
    """In half precision a call has a limited number of numbers, so that not all float32 copies exist at a time."""
    monkeypatch.setattr(adam, "_COPIED_AT_ONCE", 40)
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


# The large epsilon keeps Adam from enlarging gradients that are zero except for rounding, as that of a key's bias.
RUN = [*SHARED, "--adam-eps", "1e-3", "--weight-decay", "0.01", "--update-freq", "2", "--no-epoch-checkpoints"]


def run(data, folder, name, updates, *flags, **how):
    return train(data, folder, *RUN, *flags, "--optimizer", name, "--max-update", str(updates), **how)


def test_a_run_is_fairseqs_and_either_goes_on_from_the_other(data, tmp_path):
    """Parameters are tied, and an update has two batches; a run continues with the same or with the other optimizer."""
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
def test_a_bf16_run_is_fairseqs(data, tmp_path, flags):
    states = [run(data, tmp_path / name, name, 6, *flags, command=b2t_train) for name in ("adam", "adam_fused")]
    assert states[1]["extra_state"]["val_loss"] == pytest.approx(states[0]["extra_state"]["val_loss"], rel=0.01)
    # A few roundings to bfloat16 differ.
    assert_same_model(*states, tolerance=0.01)
    state = states[1]["last_optimizer_state"]["state"]
    assert {values["exp_avg"].dtype for values in state.values()} == {torch.float32}


@pytest.mark.parametrize(
    "betas",
    [
        "",
        "0.9",
        "0.9 0.98",
        "(0.9,)",
        "(0.9, 1.0)",
        "(-0.1, 0.9)",
        "(0.9, 0.98, 0.99)",
        "('a', 'b')",
        "{0.9, 0.98}",
        "__import__('pathlib').Path('evaluated').touch() or (0.9, 0.98)",
    ],
)
def test_wrong_betas_are_refused_and_never_evaluated(tmp_path, monkeypatch, betas):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        build_optimizer(settings(adam_betas=betas), parameters())
    assert f"--adam-betas {betas}: give two numbers" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_wrong_betas_on_the_command_line_are_refused(data, tmp_path):
    with pytest.raises(InputError, match=r"--adam-betas \(0\.9, 98\): give two numbers"):
        train(data, tmp_path, *SHARED, "--optimizer", "adam_fused", "--adam-betas", "(0.9, 98)")


def test_betas_may_be_a_list():
    """They are one in a YAML file, and by default."""
    optimizer = build_optimizer(settings(adam_betas=[0, 0.5]), parameters())
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.5)


def test_a_device_without_a_fused_kernel_uses_fairseqs_adam(monkeypatch, caplog):
    def missing(*_, **__):
        raise RuntimeError("fused=True requires another device")

    monkeypatch.setattr(adam, "AdamW", missing)
    caplog.set_level("INFO")
    optimizer = build_optimizer(settings(), parameters())
    assert type(optimizer.optimizer) is Adam
    assert "torch has no fused AdamW for cpu; using fairseq's Adam" in caplog.text


def test_a_tpu_uses_fairseqs_adam():
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


def test_a_step_returns_the_result_of_its_closure():
    """fairseq may pass a closure and use its result."""
    values = parameters()
    assert build_optimizer(settings(), values).optimizer.step(lambda: 3.5) == 3.5
