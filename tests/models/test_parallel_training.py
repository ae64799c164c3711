"""Training by several processes equals training by one, with shared and recomputed layers too."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from helpers import make_batch, make_model
from processes import two_processes
from training import SHARED, assert_same_model, load, losses, train

FUSED = ["--criterion", "label_smoothed_cross_entropy_fused"]


@pytest.mark.parametrize(
    "flags",
    [
        [*SHARED, *FUSED, "--share-encoder-decoder", "--no-share-norms", "--ddp-backend", "legacy_ddp"],
        [*SHARED, "--ddp-backend", "legacy_ddp", "--checkpoint-activations"],
    ],
    ids=["shared-fused", "shared-recomputed"],
)
def test_two_processes_equal_one(data, tmp_path, flags, caplog):
    """Each process has half of each batch; losses and weights are those of one process, also in a continued run."""
    flags = [*flags, "--dropout", "0", "--max-tokens", "100000"]
    caplog.set_level("INFO")
    alone = ["--batch-size", "30", "--update-freq", "2", "--max-epoch", "4"]
    one = train(data, tmp_path / "one", *flags, *alone)
    single = losses(caplog.messages)
    assert len(single) == 8
    two_processes(data, tmp_path / "two", *flags, "--batch-size", "30", "--max-epoch", "2")
    resumed = two_processes(data, tmp_path / "two", *flags, "--batch-size", "30", "--max-epoch", "4")
    assert losses(resumed) == pytest.approx(single[4:], abs=2e-3)
    assert_same_model(one, load(tmp_path / "two/checkpoint_last.pt"), tolerance=1e-4)


@pytest.mark.parametrize("wrapper", ["plugin", "fairseq"])
def test_default_data_parallelism_with_recomputed_tied_layers(wrapper, tmp_path):
    """PyTorch's DistributedDataParallel works with our wrapper for recomputation, and fails with fairseq's."""
    model = make_model(layer_sharing="cycle", encoder_unique_layers=3, decoder_unique_layers=3)
    for layer in (*model.encoder.layer_list(), *model.decoder.layer_list()):
        if wrapper == "fairseq":
            checkpoint_wrapper(layer)
        else:
            model.encoder.wrap_layer(SimpleNamespace(**{**vars(model.cfg), "checkpoint_activations": True}), layer)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        loss = parallel(**make_batch()["net_input"])[0].square().sum()
        if wrapper == "fairseq":
            with pytest.raises(RuntimeError, match="ready only once"):
                loss.backward()
        else:
            loss.backward()
    finally:
        torch.distributed.destroy_process_group()
