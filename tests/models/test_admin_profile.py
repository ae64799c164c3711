"""Admin's omegas are measured on the first batch of a new run, whatever its optimizer and its number of processes."""

from types import SimpleNamespace

import pytest
import torch
from helpers import make_batch, make_model
from processes import two_processes
from training import SHARED, assert_same_model, load, train

from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq import admin_profile

ADMIN = ["--residual", "admin", *SHARED]
PROFILED = "profiled on the first batch"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of three updates that writes its profile: its last checkpoint and the file of the profile."""
    folder = tmp_path_factory.mktemp("admin")
    state = train(data, folder / "run", *ADMIN, "--max-update", "3", "--admin-profile", str(folder / "profile"))
    return state, folder / "profile"


def omegas(state):
    """Return the omegas in a checkpoint by name."""
    return {name: tensor for name, tensor in state["model"].items() if name.endswith("omega")}


def test_the_profile_has_the_omegas_of_the_first_update(data, run, tmp_path):
    """After one update with almost no learning rate, the omegas in the checkpoint are those of the file."""
    _, profile = run
    state = train(data, tmp_path / "run", *ADMIN, "--max-update", "1", "--lr", "1e-12", "--warmup-init-lr", "0")
    lines = [line.split() for line in profile.read_text().splitlines()]
    assert [int(number) for number, _ in lines] == [*range(1, 9), *range(1, 13)]
    stored = torch.cat([omegas(state)[name] for name in sorted(omegas(state), key=lambda n: n[0] != "e")])
    expected = torch.tensor([float(omega) for _, omega in lines])
    assert torch.allclose(stored, expected[:, None].expand_as(stored), rtol=1e-6)
    assert (expected.view(-1)[:8].diff() > 0).all()
    assert all(tensor == 1 for name, tensor in state["model"].items() if name.endswith("profiled"))


def test_a_run_with_its_own_profile_is_the_same(data, run, tmp_path, caplog):
    """Omegas that are read from the file give the same bits as omegas that are measured."""
    state, profile = run
    caplog.set_level("INFO")
    before = profile.read_text()
    assert_same_model(state, train(data, tmp_path / "a", *ADMIN, "--max-update", "3", "--admin-profile", str(profile)))
    assert PROFILED not in caplog.text
    assert profile.read_text() == before
    assert_same_model(state, train(data, tmp_path / "b", *ADMIN, "--max-update", "3"))
    assert PROFILED in caplog.text


def test_a_resumed_run_needs_no_profile(data, run, tmp_path, caplog):
    """It neither measures omegas again nor reads the file, which may be gone."""
    profile = tmp_path / "profile"
    train(data, tmp_path / "run", *ADMIN, "--max-update", "2", "--admin-profile", str(profile))
    profile.unlink()
    caplog.clear()
    caplog.set_level("INFO")
    resumed = train(data, tmp_path / "run", *ADMIN, "--max-update", "3", "--admin-profile", str(profile))
    assert_same_model(run[0], resumed)
    assert PROFILED not in caplog.text
    assert not profile.exists()


def test_two_processes_have_the_omegas_of_the_first(data, tmp_path):
    """Each process has another batch; the run is that of one process."""
    flags = [*ADMIN, "--ddp-backend", "legacy_ddp", "--dropout", "0", "--max-tokens", "100000", "--batch-size", "30"]
    lines = two_processes(data, tmp_path / "two", *flags, "--max-update", "2")
    assert sum(PROFILED in line for line in lines) == 1
    one = train(data, tmp_path / "one", *flags, "--max-update", "2", "--update-freq", "2")
    assert_same_model(one, load(tmp_path / "two/checkpoint_last.pt"), tolerance=1e-4)


@pytest.mark.parametrize(
    "flags", [["--bf16"], ["--store-ema", "--ema-decay", "0.9", "--ema-fp32"]], ids=["bf16", "ema"]
)
def test_copies_of_the_parameters_are_profiled_too(data, run, tmp_path, flags):
    """A bf16 optimizer and a moving average have copies of the parameters."""
    rate = ["--lr", "1e-12", "--warmup-init-lr", "0", "--max-update", "2"]
    state = train(data, tmp_path, *ADMIN, *rate, *flags, command=b2t_train)
    profile = [float(line.split()[1]) for line in run[1].read_text().splitlines()]
    stored = [tensor for name, tensor in omegas(state).items() if name.startswith("encoder")]
    if "--store-ema" in flags:
        ema = state["extra_state"]["ema_fp32_params"]
        assert ema["encoder.layers.3.residual.omega"][1, 0].item() == pytest.approx(profile[7], rel=1e-3)
    assert torch.cat(stored)[:, 0].tolist() == pytest.approx(profile[:8], rel=0.01)


def test_every_layer_is_measured_with_layerdrop_too():
    model = make_model(residual="admin", encoder_layerdrop=0.5, decoder_layerdrop=0.5).train()
    admin_profile.measure(model, make_batch()["net_input"])
    assert admin_profile.is_profiled(model)
    assert model.encoder.layers.p == 0.5
    for layer in model.decoder.layers[1:]:
        assert (layer.residual.omega > 1).all()


def test_a_measurement_that_fails_changes_nothing():
    model = make_model(residual="admin")
    with pytest.raises(TypeError):
        admin_profile.measure(model, {"src_tokens": None})
    assert not admin_profile.is_profiled(model)
    assert all("connect" not in vars(layer.residual) for layer in model.encoder.layers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 1.0\n2 1.5\n", ["another model", "its 2 lines", "1 to 12 (encoder), 1 to 18 (decoder)"]),
        ("1 one\n", ["is not a profile", "one"]),
        ("1 1.0 2\n", ["is not a profile"]),
        ("".join(f"{i} nan\n" for count in (12, 18) for i in range(1, count + 1)), ["not positive numbers"]),
    ],
    ids=["other-model", "no-number", "three-columns", "nan"],
)
def test_a_wrong_profile_is_refused(tmp_path, text, words):
    (tmp_path / "profile").write_text(text)
    model = make_model(residual="admin")
    with pytest.raises(InputError) as error:
        admin_profile.read(model, tmp_path / "profile")
    assert all(word in str(error.value) for word in [str(tmp_path / "profile"), *words]), error.value
    assert not admin_profile.is_profiled(model)


def test_a_profile_that_cannot_be_written_is_an_error():
    with pytest.raises(InputError, match=r"/nowhere/profile cannot be written: there is no folder /nowhere"):
        admin_profile.write(make_model(residual="admin"), "/nowhere/profile")


def test_fully_sharded_parameters_cannot_be_measured():
    trainer = SimpleNamespace(is_fsdp=True)
    with pytest.raises(InputError, match="--ddp-backend fully_sharded"):
        admin_profile.profile_in_training(trainer, {})
