"""What training_speed.py reports of its runs."""

from __future__ import annotations

import statistics
from collections import Counter

import trainers
from measuring import median_and_quartiles, ratios
from training_runs import Run
from training_sizes import B2T, BASELINE, POST_LN
from write_result import markdown

from b2t_fairseq.flops import training_flops


def rows(size: str, runs: list[Run], updates: list[trainers.Update], peak: float | None) -> list[dict]:
    """Return one row for each model of a size.

    Args:
        size: what the size is called.
        runs: fairseq's model and this plugin's, all with the times of all updates.
        updates: those that were timed.
        peak: the device's FLOPs a second, ``None`` if unknown.
    """
    seconds = {run.name: run.seconds for run in runs}
    tokens = [sum(batch["ntokens"] for batch in update) for update in updates]
    flops = [update_flops(runs[-1].trainer, update) for update in updates]
    found = []
    for run in runs:
        speed, quartiles = median_and_quartiles(ratios(seconds[BASELINE], run.seconds))
        row = {
            "size": size,
            "variant": run.name,
            "parameters": sum(parameter.numel() for parameter in run.trainer.model.parameters()),
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
        found.append(row)
    return found


def update_flops(trainer: trainers.Trainer, update: trainers.Update) -> int:
    """Return the FLOPs of an update without padding.

    Args:
        trainer: of one of this plugin's models; fairseq's of the same size computes as much.
        update: batches of sentence pairs.
    """
    data = trainers.training_data(trainer)
    lengths = Counter(
        (int(data.src_sizes[pair]), int(data.tgt_sizes[pair])) for batch in update for pair in batch["id"]
    )
    vocabulary = len(trainer.task.target_dictionary)
    return sum(
        count * training_flops(trainer.cfg.model, vocabulary, 1, source, target)
        for (source, target), count in lengths.items()
    )


def table(result: dict) -> str:
    """Return the result as Markdown."""
    columns = ["size", "model", "parameters", "`--max-tokens`", "target tokens a second", "times as fast", "quartiles"]
    columns += ["step time of B2T to Post-LN", "peak memory", "MFU"]
    rows = []
    for row in result["rows"]:
        low, high = row["speed_ratio_quartiles"]
        utilization = row["flops_utilization"]
        cells = [row["size"], row["variant"], f"{row['parameters'] / 1e6:.1f}M", f"{row['max_tokens']}"]
        cells += [f"{row['target_tokens_per_second']:,.0f}", f"{row['speed_ratio']:.2f}", f"{low:.2f} to {high:.2f}"]
        if row["time_ratio_to_post_ln"] is None:
            cells.append("")
        else:
            fast, slow = row["time_ratio_to_post_ln_quartiles"]
            cells.append(f"{row['time_ratio_to_post_ln']:.2f} ({fast:.2f} to {slow:.2f})")
        cells += [f"{row['peak_bytes'] / 1e9:.2f} GB, {row['memory_ratio']:.3f}"]
        rows.append([*cells, "" if utilization is None else f"{utilization:.1%}"])
    peak = "unknown" if result["peak_flops"] is None else f"{result['peak_flops'] / 1e12:.3g}e12 a second"
    times = "One round" if result["rounds"] == 1 else f"Medians over {result['rounds']} rounds"
    note = (
        f"{times}, ratios within each round, in brackets quartiles, to fairseq's transformer of the same "
        "size. The models of a size train on the same sentences; their memory is compared in batches of one size, the "
        "smallest `--max-tokens` among them. MFU, model FLOPs utilization, is the matrix products of real tokens, "
        f"padding not counted, over the peak: {peak}, {result['peak_flops_source']}. fairseq's transformer trains "
        f"with `{result['fairseqs_flags']}`, this plugin's with `{result['our_flags']}`. {result['setting']}."
    )
    return markdown(columns, rows, 2, result, note)
