"""Everything that this plugin changes in fairseq and PyTorch, in one table.

Each row says what is changed, why and when.  ``docs/changes_of_fairseq.md`` is generated from the table, and a test
compares the parameters of what is replaced with those that the replacement was written for.
"""

from __future__ import annotations

from .. import admin_profile, decoding, normalization
from ..kernels import attention, compilation, half_precision
from ..subwords import task as subword_task
from . import (
    amp,
    compatibility,
    devices,
    epoch_position,
    fixes,
    loggers,
    mapped,
    one_wait,
    parallel,
    precision,
    resuming,
    run_state,
    stopping,
    validating,
)
from .patching import IN_TRAINING, WHILE_FAIRSEQ_LOADS, WITH_COMPILE, Patch, Setting


def with_first_step(train_step):
    """Return ``Trainer.train_step`` with what has to happen before the first update, and after each one."""
    updating = normalization.with_running_values(train_step)
    return fixes.refusing_without_files(admin_profile.profiling_first(updating))


PATCHES: tuple[Patch | Setting, ...] = (
    Setting(
        "sys.modules",
        compatibility.metrics_of_classification_postponed,
        "scikit-learn and SciPy take a third of the time in which fairseq loads. It gets functions that import them "
        "when they are called.",
        WHILE_FAIRSEQ_LOADS,
    ),
    Setting(
        "torch.backends.cuda.enable_cudnn_sdp",
        attention.leave_cudnn_out,
        "cuDNN plans its attention anew for every shape of a batch, and text has thousands; PyTorch's own does not.",
    ),
    Setting(
        "torch.serialization.add_safe_globals",
        compatibility.allow_checkpoint_types,
        "Checkpoints of fairseq hold plain data types that `torch.load(weights_only=True)` refuses otherwise.",
    ),
    Setting(
        "fairseq.tasks.TASK_DATACLASS_REGISTRY",
        subword_task.add_flags,
        "The task `translation` has the flags of `--subword-sampling`: here, in its class and in Hydra's store.",
    ),
    Patch(
        "fairseq.tasks.translation.TranslationTask",
        "load_dataset",
        subword_task.with_sampled_training_data,
        "self split epoch combine kwargs",
        "With `--subword-sampling` the training data has other pieces in every epoch.",
    ),
    Patch(
        "fairseq.tasks.FairseqTask",
        "build_generator",
        decoding.with_beam_search,
        "self models args seq_gen_cls extra_gen_cls_kwargs prefix_allowed_tokens_fn",
        "All of fairseq's commands translate with the fast beam search.",
    ),
    Patch(
        "fairseq.ngram_repeat_block.NGramRepeatBlock",
        "_no_repeat_ngram",
        fixes.with_ngrams_of_hypotheses,
        "self tokens lprobs bsz beam_size step",
        "`--no-repeat-ngram-size` does something: fairseq looks for the last n-gram in the padding after it.",
    ),
    Patch(
        "fairseq.sequence_generator.SequenceGenerator",
        "_generate",
        fixes.with_lengths_of_text,
        "self sample prefix_tokens constraints bos_token",
        "`--match-source-len` gives text as many symbols as its source has, and not one more.",
    ),
    Patch(
        "fairseq.search.DiverseBeamSearch",
        "step",
        fixes.with_places_in_batch,
        "self step lprobs scores prev_output_tokens original_batch_idxs",
        "`--diverse-beam-groups` works for every batch: a sentence's number in the corpus is not its place in a batch.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "train_step",
        with_first_step,
        "self samples raise_oom",
        "Before the first update Admin's omegas are measured, and a fresh model whose files are missing is refused. "
        "After each one PowerNorm's running values move.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "load_checkpoint",
        resuming.with_all_that_is_loaded,
        "self filename reset_optimizer reset_lr_scheduler optimizer_overrides reset_meters",
        "A checkpoint that does not fit is refused with the reason: scheme, sharing, dictionary, optimizer. "
        "`--store-ema` works if it has no moving average.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "save_checkpoint",
        run_state.with_run_state,
        "self filename extra_state",
        "A checkpoint says where its run began and holds the counter of `--patience`.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "state_dict",
        precision.with_masters,
        "self",
        "A checkpoint of a run in half precision has the float32 weights that the optimizer steps, not rounded ones.",
    ),
    Patch(
        "fairseq.models.BaseFairseqModel",
        "load_state_dict",
        precision.with_weights_as_read,
        "self state_dict strict model_cfg args",
        "A run in half precision continues with the float32 weights of its checkpoint.",
    ),
    Patch(
        "fairseq.checkpoint_utils",
        "load_checkpoint_to_cpu",
        precision.with_optimizer_state_for_trainer,
        "path arg_overrides load_on_all_ranks",
        "A run continues in another precision, as on another kind of GPU; the optimizer's state is converted.",
    ),
    Patch(
        "fairseq.checkpoint_utils",
        "load_model_ensemble_and_task",
        mapped.with_mapped_files,
        "filenames arg_overrides task strict suffix num_shards state",
        "A model is read from a memory-mapped checkpoint, the optimizer's state not at all.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "get_valid_iterator",
        validating.with_reason,
        "self subset disable_iterator_cache",
        "Sentences that are too long to be validated are refused in one line.",
    ),
    Patch(
        "fairseq.checkpoint_utils",
        "load_checkpoint",
        resuming.with_own_checkpoint,
        "cfg trainer passthrough_args",
        "The same command continues from the run's own checkpoint, and `--patience` continues to count.",
    ),
    Patch(
        "fairseq.data.iterators.EpochBatchIterator",
        "state_dict",
        epoch_position.with_description_of_batches,
        "self",
        "A position within an epoch says of which batches and of how many processes it is one.",
    ),
    Patch(
        "fairseq.data.iterators.EpochBatchIterator",
        "load_state_dict",
        epoch_position.with_position_for_these_processes,
        "self state_dict",
        "A run continues with the same sentences on another number of processes; other batches are refused.",
    ),
    Patch(
        "fairseq.data.iterators.EpochBatchIterator",
        "_get_iterator_for_epoch",
        epoch_position.with_shuffling_of_this_epoch,
        "self epoch shuffle fix_batches_to_gpus offset",
        "`--curriculum N` shuffles after N epochs; fairseq then shuffles no epoch at all.",
    ),
    Patch(
        "fairseq.optim.lr_scheduler.reduce_lr_on_plateau.ReduceLROnPlateauLRSchedule",
        "state_dict",
        run_state.with_plateau_counters,
        "self",
        "`reduce_lr_on_plateau` continues to count the validations without improvement when a run continues.",
    ),
    Patch(
        "fairseq.optim.lr_scheduler.reduce_lr_on_plateau.ReduceLROnPlateauLRSchedule",
        "load_state_dict",
        run_state.with_plateau_counters_restored,
        "self state_dict",
        "The same, when the checkpoint is loaded.",
    ),
    Patch(
        "fairseq.tasks.FairseqTask",
        "get_batch_iterator",
        fixes.with_batches_of_first_epoch,
        "self dataset max_tokens max_sentences max_positions ignore_invalid_inputs required_batch_size_multiple seed "
        "num_shards shard_id num_workers epoch data_buffer_size disable_iterator_cache skip_remainder_batch "
        "grouped_shuffling update_epoch_batch_itr",
        "A run that continues in a later epoch uses the batches with which it began.",
    ),
    Patch(
        "fairseq.criterions.label_smoothed_cross_entropy_with_rdrop.RdropLabelSmoothedCrossEntropyCriterion",
        "forward",
        fixes.with_r_drop_in_training_only,
        "self model sample reduce net_output",
        "`--rdrop-alpha` of fairseq's own criterion has no effect in validation, which fairseq would double.",
    ),
    Patch(
        "fairseq.logging.progress_bar.TensorboardProgressBarWrapper",
        "_writer",
        loggers.with_one_curve,
        "self key",
        "TensorBoard hides what was logged of updates that a continued run makes again.",
    ),
    Patch(
        "fairseq.logging.progress_bar.WandBProgressBarWrapper",
        "__init__",
        loggers.with_one_run,
        "self wrapped_bar wandb_project run_name",
        "Weights & Biases begins one run, and not another one for every epoch and every validation.",
    ),
    Patch(
        "fairseq.logging.progress_bar.WandBProgressBarWrapper",
        "update_config",
        loggers.with_settings_that_change,
        "self config",
        "A run of Weights & Biases continues with other settings, such as a larger `--max-update`.",
    ),
    Patch(
        "fairseq.models.ema.ema.EMA",
        "_step_internal",
        fixes.with_tied_parameters_once,
        "self new_model updates",
        "The moving average of `--store-ema` moves a tied parameter once per update, not once per name.",
    ),
    Patch(
        "fairseq.data.Dictionary",
        "encode_line",
        fixes.with_one_tensor,
        "self line line_tokenizer add_if_not_exist consumer append_eos reverse_order",
        "`fairseq-preprocess` with `--user-dir` looks words up faster.",
    ),
    Patch(
        "fairseq.data.token_block_dataset",
        "np",
        fixes.with_long,
        "",
        "`--sample-break-mode eos` works with NumPy 2, which has no `np.compat.long`.",
    ),
    Patch(
        "fairseq.data.indexed_dataset",
        "make_dataset",
        fixes.with_text_in_files,
        "path impl fix_lua_indexing dictionary",
        "Binary data without a line are refused in one line.",
    ),
    Patch(
        "fairseq.tasks.FairseqTask",
        "filter_indices_by_size",
        fixes.with_a_sentence_left,
        "self indices dataset max_positions ignore_invalid_inputs",
        "Data of which each sentence is too long are refused in one line.",
    ),
    Patch(
        "fairseq.nan_detector.NanDetector",
        "add_hooks",
        fixes.with_hooks_for_tensors,
        "self module",
        "Gradients that are not finite end a training with fairseq's error and the layer, and not with StopIteration.",
    ),
    Patch(
        "fairseq.utils",
        "move_to_cpu",
        fixes.with_each_tensor_once,
        "sample",
        "A checkpoint holds tied parameters once, whatever the device and the precision.",
    ),
    Patch(
        "fairseq.file_io.PathManager",
        "copy",
        fixes.with_whole_copy,
        "src_path dst_path overwrite",
        "`checkpoint_last.pt` is replaced as a whole; a kill while fairseq copies leaves half a file.",
    ),
    Patch(
        "fairseq.models",
        "DistributedFairseqModel",
        parallel.with_layers_that_are_dropped,
        "args model process_group device",
        "LayerDrop works with `--ddp-backend pytorch_ddp`, the default, and that backend works on a CPU.",
    ),
    Patch(
        "fairseq.distributed.utils",
        "_infer_torch_distributed_launch_init",
        devices.with_local_rank,
        "cfg",
        "A process that a launcher started uses the GPU of its `LOCAL_RANK`, and needs none with `--cpu`.",
    ),
    Patch(
        "fairseq.optim.FP16Optimizer",
        "build_fp32_params",
        devices.with_flat_copy_where_parameters_are,
        "args params flatten",
        "`--fp16` trains on a CPU; fairseq keeps the float32 copy of the weights on a GPU.",
    ),
    Patch(
        "fairseq.trainer",
        "torch",
        devices.with_tensors_without_gpu,
        "",
        "`--fp16` on a CPU skips an update whose gradients overflow; fairseq needs a GPU for that.",
    ),
    Patch(
        "fairseq.optim.AMPOptimizer",
        "__init__",
        amp.with_settings_of_scale,
        "self cfg params fp32_optimizer kwargs",
        "`--amp-init-scale` and `--amp-scale-window` set the loss scale and when it grows.",
    ),
    Patch(
        "fairseq.optim.AMPOptimizer",
        "step",
        amp.with_step_of_what_was_unscaled,
        "self",
        "`--amp` divides the gradients by the loss scale once; fairseq does it twice, which only Adam hardly notices.",
    ),
    Patch(
        "fairseq.modules.AdaptiveInput",
        "forward",
        amp.with_embeddings_of_one_type,
        "self input",
        "`--amp` works with `--adaptive-input`.",
    ),
    Patch(
        "fairseq.tasks.FairseqTask",
        "train_step",
        one_wait.with_logged_numbers,
        "self sample model criterion optimizer update_num ignore_grad",
        "On a GPU the host waits once in an update: what is logged is read together with the gradients' norm.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "clip_grad_norm",
        one_wait.with_one_wait,
        "self clip_norm",
        "The same: here the numbers of the update are read.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "_fast_stat_sync_sum",
        one_wait.with_sums_on_gpu,
        "self logging_outputs extra_stats_to_sum ignore",
        "The same, for the sums over several GPUs.",
    ),
    Patch(
        "fairseq.distributed.utils",
        "all_reduce_dict",
        one_wait.with_one_sum,
        "data device group",
        "The same: one sum over several GPUs, of which no part waits.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "_check_grad_norms",
        one_wait.with_norms_that_were_read,
        "self grad_norm",
        "The same: the norms of several GPUs are compared after they are read.",
    ),
    Patch(
        "fairseq.optim.fp16_optimizer._FP16OptimizerMixin",
        "_sync_fp16_grads_to_fp32",
        half_precision.with_gradients_copied_together,
        "self",
        "Half precision: few kernels copy all gradients; fairseq launches one for each.",
    ),
    Patch(
        "fairseq.optim.fp16_optimizer._FP16OptimizerMixin",
        "_sync_fp32_params_to_fp16",
        half_precision.with_parameters_copied_together,
        "self",
        "The same, for the parameters.",
    ),
    Patch(
        "fairseq.optim.fp16_optimizer._FP16OptimizerMixin",
        "zero_grad",
        half_precision.with_gradients_cleared_together,
        "self",
        "The same, before each update.",
    ),
    Patch(
        "fairseq.utils",
        "multi_tensor_total_norm",
        half_precision.with_norms_together,
        "grads chunk_size",
        "The norm of all gradients needs few kernels without NVIDIA's apex, and is computed where the gradients are: "
        "`--cpu` works on a machine with a GPU.",
    ),
    Patch(
        "fairseq.utils",
        "multi_tensor_l2norm_available",
        half_precision.without_apex,
        "",
        "The same: fairseq uses its function for many tensors, also without apex.",
    ),
    Patch(
        "fairseq.trainer.Trainer",
        "_aggregate_logging_outputs",
        stopping.with_request_to_stop,
        "self logging_outputs extra_stats_to_sum ignore",
        "All processes learn after the same update that one of them got a signal.",
        IN_TRAINING,
    ),
    Patch(
        "fairseq_cli.train",
        "validate_and_save",
        stopping.with_stop,
        "cfg trainer task epoch_itr valid_subsets end_of_epoch",
        "A run that got a signal ends after the current update with a checkpoint.",
        IN_TRAINING,
    ),
    Patch(
        "fairseq_cli.train",
        "train",
        validating.with_rehearsal,
        "cfg trainer task epoch_itr",
        "A validation that cannot work, or that lacks `--best-checkpoint-metric`, is refused before the first update.",
        IN_TRAINING,
    ),
    Patch(
        "fairseq_cli.train",
        "validate",
        validating.with_checkpoint_first,
        "cfg trainer task epoch_itr subsets",
        "A validation that fails loses no epoch.",
        IN_TRAINING,
    ),
    Patch(
        "fairseq_cli.train",
        "get_valid_stats",
        validating.with_bleu_of_nothing,
        "cfg trainer stats tracking_best",
        "`--best-checkpoint-metric bleu` is 0 while all translations are empty, and no error.",
        IN_TRAINING,
    ),
    Patch(
        "multiprocessing.context.SpawnProcess",
        "start",
        stopping.with_signals_held_back,
        "self",
        "A training process that is being started gets the signal once it can handle it.",
        IN_TRAINING,
    ),
    Patch(
        "torch.utils.data._utils.signal_handling",
        "_set_worker_signal_handlers",
        stopping.with_handlers_of_workers,
        "",
        "A process that loads data outlives the signal until the last update is made.",
        IN_TRAINING,
    ),
    Setting(
        "os.register_at_fork",
        stopping.serve_to_the_end_after_fork,
        "The same, before PyTorch has set the handlers of such a process.",
        IN_TRAINING,
    ),
    Setting(
        "fairseq.trainer.logger.addFilter",
        fixes.without_lines_of_tied_parameters,
        "fairseq logs a line for every tied parameter; the plugin logs one line about all of them.",
        IN_TRAINING,
    ),
    Setting(
        "torch._dynamo.config.optimize_ddp",
        compilation.keep_layers_whole,
        "Each layer is one graph, also with DistributedDataParallel: PyTorch would cut it where a bucket of gradients "
        "is full, and fuse nothing across the cuts.",
        WITH_COMPILE,
    ),
    Setting(
        "torch.fx.experimental._config.use_duck_shape",
        compilation.take_equal_sizes_for_chance,
        "In the first batch a length may happen to be the number of sentences; PyTorch would take that for a rule, and "
        "compile again for the next batch.",
        WITH_COMPILE,
    ),
)

_applied: set[str] = set()


def apply(when: str) -> None:
    """Make the changes of ``AT_IMPORT`` or ``IN_TRAINING``, each once, however often this is called."""
    for patch in PATCHES:
        if patch.when == when and patch.target not in _applied:
            _applied.add(patch.target)
            patch.apply()
