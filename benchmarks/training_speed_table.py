"""The table of training_speed."""

from __future__ import annotations

import statistics
from collections import Counter

from b2t_cli.scoring.layout import millions
from b2t_fairseq.counting import training_flops
from b2t_fairseq.settings.plan import plan_translation
from benchmarks import trainers
from benchmarks.measuring import median_and_quartiles, parameter_count, ratios
from benchmarks.training_runs import Run
from benchmarks.training_sizes import B2T, BASELINE, POST_LN
from benchmarks.write_result import interval, medians, memory, table_with_note

SAME_SIZE = "fairseq's Transformer of the same size"


def rows(size: str, runs: list[Run], updates: list[trainers.Update], peak: float | None) -> list[dict]:
    """Return one row for each model of a size.

    Args:
        size: the name of the size.
        runs: fairseq's model and this plugin's, with the times of the updates.
        updates: the updates that were timed.
        peak: the device's FLOPs a second, ``None`` if it is not known.
    """
    seconds = {run.name: run.seconds for run in runs}
    tokens = [sum(batch["ntokens"] for batch in update) for update in updates]
    flops = [update_flops(runs[-1].trainer, update) for update in updates]
    table = []
    for run in runs:
        speed, quartiles = median_and_quartiles(ratios(seconds[BASELINE], run.seconds))
        row = {
            "size": size,
            "variant": run.name,
            "parameters": parameter_count(run.trainer.model),
            "max_tokens": run.max_tokens,
            "seconds": run.seconds,
            "target_tokens_per_second": statistics.median(ratios(tokens, run.seconds)),
            "speed_ratio": speed,
            "speed_ratio_quartiles": quartiles,
            "time_ratio_to_post_ln": None,
            "time_ratio_to_post_ln_quartiles": None,
            "peak_bytes": run.peak_bytes,
            "memory_ratio": run.peak_bytes / runs[0].peak_bytes,
            "flops_utilization": statistics.median(ratios(flops, run.seconds)) / peak if peak else None,
        }
        if run.name == B2T:
            time, quartiles = median_and_quartiles(ratios(run.seconds, seconds[POST_LN]))
            row |= {"time_ratio_to_post_ln": time, "time_ratio_to_post_ln_quartiles": quartiles}
        table.append(row)
    return table


def update_flops(trainer: trainers.Trainer, update: trainers.Update) -> int:
    """Return the FLOPs of an update; padding does not count.

    Args:
        trainer: of one of this plugin's models.  fairseq's model of the same size needs as many FLOPs.
        update: batches of sentence pairs.
    """
    data = trainers.training_data(trainer)
    lengths = Counter(
        (int(data.src_sizes[pair]), int(data.tgt_sizes[pair])) for batch in update for pair in batch["id"]
    )
    plan, vocabulary = plan_translation(trainer.cfg.model), len(trainer.task.target_dictionary)
    return sum(
        count * training_flops(plan, vocabulary, 1, source, target) for (source, target), count in lengths.items()
    )


def padded_update_flops(trainer: trainers.Trainer, update: trainers.Update) -> int:
    """Return the FLOPs of an update as fairseq computes it, padding included; see :func:`update_flops`."""
    plan, vocabulary = plan_translation(trainer.cfg.model), len(trainer.task.target_dictionary)
    shapes = [(batch["net_input"]["src_tokens"].shape, batch["target"].size(1)) for batch in update]
    return sum(training_flops(plan, vocabulary, size, source, target) for (size, source), target in shapes)


def markdown(result: dict) -> str:
    """Return the result as Markdown."""
    header = ["size", "model", "parameters", "`--max-tokens`", "target tokens a second", "times as fast", "quartiles"]
    header += ["step time of B2T relative to Post-LN", "peak memory", "MFU"]
    return table_with_note(header, [_cells(row) for row in result["rows"]], "llrrrrrrrr", result, _note(result))


def _cells(row: dict) -> list[str]:
    cells = [row["size"], row["variant"], millions(row["parameters"]), f"{row['max_tokens']}"]
    cells += [f"{row['target_tokens_per_second']:,.0f}", f"{row['speed_ratio']:.2f}"]
    cells.append(interval(row["speed_ratio_quartiles"]))
    if row["time_ratio_to_post_ln"] is None:
        cells.append("")
    else:
        cells.append(f"{row['time_ratio_to_post_ln']:.2f} ({interval(row['time_ratio_to_post_ln_quartiles'])})")
    utilization = row["flops_utilization"]
    return [*cells, memory(row), "" if utilization is None else f"{utilization:.1%}"]


def _note(result: dict) -> str:
    peak = "not known" if result["peak_flops"] is None else f"{result['peak_flops'] / 1e12:.3g}e12 FLOPs a second"
    return (
        f"{medians(result, SAME_SIZE)} Quartiles are in brackets. "
        "The models of a size train on the same sentences. Their memory is compared in batches of the smallest "
        "`--max-tokens` among them. MFU, model FLOPs utilization, is the FLOPs of the matrix products, without "
        "padding, divided by those that the device could do in the same time. Its peak is "
        f"{peak}, {result['peak_flops_source']}. fairseq's Transformer trains with `{result['fairseqs_flags']}`, this "
        f"plugin's models with `{result['our_flags']}`. {result['setting']}."
    )
