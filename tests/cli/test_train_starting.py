"""Flags that cannot work are refused before a training starts, and those without effect are named."""

import re
from copy import deepcopy

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import progress_bar
from omegaconf import OmegaConf
from training import MODEL_FLAGS, TRAIN_FLAGS, train

from b2t_cli import main as b2t
from b2t_cli.fairseq_commands import starting
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq.upstream.resuming import Start


@pytest.fixture(scope="module")
def defaults(data):
    """The settings of a training on the small corpus."""
    args = options.parse_args_and_arch(options.get_training_parser(), [data, *MODEL_FLAGS, *TRAIN_FLAGS])
    args.tpu = False
    return convert_namespace_to_omegaconf(args)


@pytest.fixture
def cfg(defaults):
    """A copy of these settings, to be changed."""
    return deepcopy(defaults)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("checkpoint.save_interval", 0, "--save-interval 0: give 1 or more"),
        ("dataset.validate_interval", 0, "--validate-interval 0: give 1 or more"),
        ("dataset.required_batch_size_multiple", 0, "--required-batch-size-multiple 0: give 1 or more"),
        ("common.log_interval", 0, "--log-interval 0: give 1 or more"),
        ("common.seed", -1, "--seed -1: give 0 or more"),
        ("dataset.max_tokens", 0, "--max-tokens 0: give 1 or more"),
        ("dataset.batch_size", 0, "--batch-size 0: give 1 or more"),
        ("dataset.num_workers", -1, "--num-workers -1: give 0 or more"),
        ("criterion.label_smoothing", 1.5, "--label-smoothing 1.5: give a probability"),
        ("criterion.label_smoothing", float("nan"), "--label-smoothing nan: give a probability"),
        ("task.eval_bleu_args", '{"beem": 4}', "no flag of the search is named 'beem'"),
        # it would change the weights that are trained
        ("task.eval_bleu_args", '{"int8": true}', "no flag of the search is named 'int8'"),
        ("task.eval_bleu_args", "[4]", r"--eval-bleu-args \[4\] is no object of JSON"),
        ("task.eval_bleu_remove_bpe", "other", "--eval-bleu-remove-bpe other: unknown pieces"),
        ("optimization.update_freq", [2, 0], "--update-freq 2,0: give 1 or more"),
        ("checkpoint.keep_interval_updates_pattern", 0, "--keep-interval-updates-pattern 0"),
        ("checkpoint.checkpoint_suffix", "_x", "--checkpoint-suffix _x is not supported"),
        ("checkpoint.write_checkpoints_asynchronously", True, "--write-checkpoints-asynchronously is not supported"),
        ("distributed_training.use_sharded_state", True, "--use-sharded-state is not supported"),
        ("common.use_plasma_view", True, "--use-plasma-view is not supported"),
        ("dataset.num_shards", 2, "--num-shards 2 is for translating"),
        ("dataset.update_ordered_indices_seed", True, "--update-ordered-indices-seed needs --update-epoch-batch-itr"),
        ("common.wandb_project", "mine", "--wandb-project mine needs wandb, which is not installed"),
        ("common.tensorboard_logdir", "logs", "--tensorboard-logdir logs needs tensorboard"),
        ("task.eval_bleu_args", "{beam: 4}", r"--eval-bleu-args \{beam: 4\} is not JSON"),
        ("distributed_training.distributed_world_size", 2, "no GPU is visible"),
    ],
)
def test_refused_by_the_flags_alone(cfg, monkeypatch, setting, value, message):
    for module in ("wandb", "SummaryWriter"):
        monkeypatch.setattr(progress_bar, module, None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    starting.refuse_what_cannot_work(cfg)
    cfg.task.eval_bleu = True
    OmegaConf.update(cfg, setting, value)
    with pytest.raises(InputError, match=message):
        starting.refuse_what_cannot_work(cfg)


@pytest.mark.parametrize(
    ("name", "flags", "error"),
    [
        ("inverse_sqrt", {"warmup_updates": 0}, "inverse_sqrt .*--warmup-updates 0 --lr 0.01 .*division by zero"),
        ("cosine", {"max_update": 0, "lr_period_updates": 0}, "max_update or --lr-period-updates must be set"),
        ("tri_stage", {"warmup_steps": 4, "hold_steps": 0, "decay_steps": 0}, "tri_stage .*--decay-steps 0"),
    ],
)
def test_a_schedule_without_learning_rates_is_refused(cfg, name, flags, error):
    from fairseq.optim.lr_scheduler import LR_SCHEDULER_DATACLASS_REGISTRY

    starting.refuse_bad_schedule(cfg, Start())
    schedule = OmegaConf.structured(LR_SCHEDULER_DATACLASS_REGISTRY[name])
    plain = {field: None if OmegaConf.is_interpolation(schedule, field) else schedule[field] for field in schedule}
    cfg.lr_scheduler = OmegaConf.create({**plain, "lr": [0.01], **flags, "_name": name})
    with pytest.raises(InputError, match=error):
        starting.refuse_bad_schedule(cfg, Start())


def test_two_precisions_are_refused(data, tmp_path, capsys):
    flags = [*MODEL_FLAGS, *TRAIN_FLAGS, "--save-dir", str(tmp_path / "run"), "--bf16", "--fp16"]
    assert b2t(["train", data, *flags]) == 1
    assert "--fp16 and --bf16 are two precisions of one training: drop one of them" in capsys.readouterr().err


def test_data_of_which_each_sentence_is_too_long_are_refused(data, tmp_path, capsys):
    flags = [*MODEL_FLAGS, *TRAIN_FLAGS, "--save-dir", str(tmp_path / "run"), "--max-source-positions", "1"]
    assert b2t(["train", data, *flags]) == 1
    assert re.search(r"all \d+ sentences are longer than max_positions=\(1, ", capsys.readouterr().err)


def test_abbreviations_are_refused(data, tmp_path, capsys):
    """scripts/train.sh, which computes with flags, would not see them."""
    with pytest.raises(SystemExit):
        train(data, tmp_path, "--max-upd", "1", command=b2t_train)
    assert "unrecognized arguments: --max-upd 1" in capsys.readouterr().err


def test_a_rate_with_which_a_run_would_end_at_once_is_refused(cfg):
    cfg.optimization.stop_min_lr = 1e-9
    with pytest.raises(
        InputError, match=r"--stop-min-lr 1e-09 would end the run .* begins with 0\.0; .*--warmup-init-lr"
    ):
        starting.refuse_bad_schedule(cfg, Start())
    cfg.lr_scheduler.warmup_init_lr = 1e-7
    starting.refuse_bad_schedule(cfg, Start())


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("task.data", "/nowhere", "/nowhere: there is no such folder of data"),
        ("task.data", "DATA:EMPTY", "EMPTY has no data named train, which --train-subset asks for"),
        ("task.load_alignments", True, "--load-alignments: .* has no train.align.*; give fairseq-preprocess"),
        ("common.log_file", "EMPTY/logs/train.log", "--log-file .*: there is no folder"),
        ("model.admin_profile", "EMPTY/profiles/omegas", "--admin-profile .*: there is no folder"),
    ],
)
def test_missing_files_are_refused_before_training(cfg, data, tmp_path, setting, value, message):
    starting.refuse_missing_files(cfg, Start())
    value = value.replace("DATA", data).replace("EMPTY", str(tmp_path)) if isinstance(value, str) else value
    OmegaConf.update(cfg, setting, value)
    with pytest.raises(InputError, match=message.replace("EMPTY", str(tmp_path))):
        starting.refuse_missing_files(cfg, Start())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint.patience": 3, "dataset.disable_validation": True}, "--patience 3 has no effect with --disable-"),
        ({"checkpoint.keep_interval_updates": 2}, "--keep-interval-updates 2 has no effect without --save-interval-up"),
        ({"checkpoint.keep_last_epochs": 2, "checkpoint.no_epoch_checkpoints": True}, "--keep-last-epochs 2 has no"),
        ({"task.eval_bleu_args": '{"beam": 4}'}, '--eval-bleu-args {"beam": 4} has no effect without --eval-bleu'),
        ({"task.subword_model": "spm.model"}, "--subword-model spm.model has no effect without --subword-sampling"),
        ({"ema.ema_decay": 0.99}, "--ema-decay 0.99 has no effect without --store-ema"),
    ],
)
def test_flags_without_effect_are_named(cfg, caplog, settings, message):
    starting.warn_of_flags_without_effect(cfg)
    assert not caplog.messages
    for setting, value in settings.items():
        OmegaConf.update(cfg, setting, value)
    starting.warn_of_flags_without_effect(cfg)
    (warning,) = caplog.messages
    assert message in warning


def test_bfloat16_on_a_processor_without_its_instructions_is_named(cfg, caplog, monkeypatch):
    for is_fast, bf16, warnings in ((True, True, 0), (False, False, 0), (False, True, 1)):
        monkeypatch.setattr(starting, "computes_bfloat16", lambda is_fast=is_fast: is_fast)
        cfg.common.bf16 = bf16
        starting.warn_of_slow_precision(cfg)
        assert len(caplog.messages) == warnings
    assert "no instructions for bfloat16" in caplog.messages[0]
