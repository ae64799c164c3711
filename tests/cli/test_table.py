"""``b2t table`` has one row for each configuration, with the mean and the deviation over its seeds."""

import itertools
import json
import re

import numpy as np
import pytest
from scoring import DEEP, POST_LN, SIX_SETS, make_run, scores

from b2t_cli import main as b2t
from b2t_cli.scoring.newstest import NEWSTESTS
from b2t_common.scripts import script_command


def write_reports(folder, *starts):
    """Write a log with a list of reports for each start of a run.

    A report is a loss and the words per second, 50 updates after the one before; a string is a line as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines, updates = [], itertools.count(50, 50)
    for start in starts:
        lines.append("2026-01-01 00:00:00 | INFO | fairseq_cli.train | training on 1 devices (GPUs/TPUs)")
        for report in start:
            if isinstance(report, str):
                lines.append(report)
            else:
                loss, speed = report
                numbers = f"nll_loss=1.5, ppl=2.8, wps={speed}, ups=12.61, num_updates={next(updates)}"
                lines.append(f"2026-01-01 00:00:00 | INFO | train_inner | epoch 001: 50 / 646 loss={loss}, {numbers}")
    (folder / "train.log").write_text("\n".join(lines) + "\n")


CRASH = "[rank0]: FloatingPointError: gradients are Nan/Inf"


def test_a_row_has_mean_and_deviation_over_seeds(sacrebleu_cache, tmp_path, capsys):
    folders = [make_run(tmp_path / f"sweep/b2t/seed{seed}", seed, **DEEP) for seed in (1, 2, 3)]
    write_reports(folders[0], [(9.1, 10), (8.1, 1000), (7.1, 1100)], [(6.9, 20), (6.5, 1200)])
    write_reports(folders[1], [(9.1, 10), ("nan", 1000), CRASH], [(8.5, 900), (6.5, 1300.5)])
    write_reports(folders[2], [(9.1, 10), (8.0, 1000)], [(7.9, 10), CRASH])
    single = make_run(tmp_path / "sweep/shared_seed7", 4, **POST_LN, **SIX_SETS, **DEEP)
    write_reports(single, [(9.1, 10), (8.1, 500), (8.0, 600)])
    for seed in (1, 2):
        write_reports(tmp_path / f"sweep/post_ln/seed{seed}", [(9.1, 10), ("inf", 1000)])
    runs = [f"sweep/b2t/seed{seed}" for seed in (1, 2, 3)]
    runs += ["sweep/shared_seed7", "sweep/post_ln/seed1", "sweep/post_ln/seed2"]
    assert b2t(["table", *runs]) == 1
    shown = capsys.readouterr().out
    assert f"b2t/seed1 left out: no scores; make them with {script_command('evaluate.sh', 'sweep/b2t/seed1')}" in shown
    assert re.search(r"b2t +0 of 3 .*( +failed){8}", shown)
    for name in ("sweep/b2t/seed1", "sweep/b2t/seed2", "sweep/shared_seed7"):
        assert b2t(["score", name]) == 0
    capsys.readouterr()
    assert b2t(["table", *runs, "--output", "table"]) == 0
    shown = capsys.readouterr().out
    rows = json.loads((tmp_path / "table.json").read_text())["configurations"]
    assert [row["configuration"] for row in rows] == ["b2t", "shared", "post_ln"]
    averages = [scores(folder)["average"]["BLEU"] for folder in folders[:2]]
    assert rows[0]["average"]["mean"] == pytest.approx(np.mean(averages))
    assert rows[0]["average"]["std"] == pytest.approx(np.std(averages, ddof=1))
    assert rows[0]["words_per_second"] == np.median([1000, 1100, 1200, 1000, 1300.5, 1000])
    assert rows[1]["relative_speed"] == 550 / np.median([1000, 1100, 1200, 1000, 1300.5, 1000])
    by_set = [
        [scores(folder)["sets"][name]["metrics"]["BLEU"]["score"] for folder in folders[:2]] for name in NEWSTESTS
    ]
    cells = [f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" for values in [*by_set, averages]]
    assert re.search(rf"b2t +2 of 3 +\S+M +1.00 +{re.escape('  '.join(cells))}", shown)
    assert (
        f"2 of 3 | {rows[0]['parameters'] / 1e6:.1f}M | 1.00 | {' | '.join(cells)}"
        in (tmp_path / "table.md").read_text()
    )
    assert " & ".join(cells).replace("±", r"$\pm$") in (tmp_path / "table.tex").read_text()
    assert re.search(rf"shared +1 .* {scores(single)['average']['BLEU']:.2f}\n", shown)
    assert re.search(r"post_ln +0 of 2 +- +0\.\d\d( +diverged){8}", shown)
    assert "b2t: diverged and left out: b2t/seed3" in shown
    assert "median of the target tokens per second" in shown


def test_runs_that_cannot_be_compared_are_refused(sacrebleu_cache, tmp_path, capsys):
    for seed, flags in ((1, {}), (2, {"encoder_layers": 3})):
        folder = make_run(tmp_path / f"a/seed{seed}", seed, ["newstest2010"], **flags)
        assert b2t(["score", str(folder)]) == 0
        write_reports(folder, [(9.1, 10), (8.1, 1000)])
    capsys.readouterr()
    assert b2t(["table", "a/seed1", "a/seed2"]) == 1
    assert "a/seed2 is not another seed of a/seed1: encoder_layers is 3 there and 6" in capsys.readouterr().err
    edited = scores(folder)
    edited["sets"]["newstest2010"]["metrics"]["BLEU"]["signature"] = "tok:intl"
    (folder / "evaluation/scores.json").write_text(json.dumps(edited))
    assert b2t(["table", "a/seed1", "a/seed2"]) == 1
    assert "newstest2010 is scored as tok:intl en-de in a/seed2" in capsys.readouterr().err


def test_failed_runs_are_left_out_and_named(sacrebleu_cache, tmp_path, capsys):
    """The exit status says that some are missing."""
    for seed in (1, 2):
        folder = make_run(tmp_path / f"a/seed{seed}", seed, ["newstest2010"])
        assert b2t(["score", str(folder)]) == 0
        write_reports(folder, [(9.1, 10), (8.1, 1000)])
    write_reports(folder, [])
    for fault in ("a/seed2/train.log has no report of a loss", "no train.log"):
        capsys.readouterr()
        assert b2t(["table", "a/seed1", "a/seed2", "--output", "table"]) == 1
        shown = capsys.readouterr().out
        assert f"a/seed2 left out: {fault}" in shown
        assert re.search(r"\na +1 of 2 +\d", shown)
        (folder / "train.log").unlink(missing_ok=True)
    assert b2t(["table", "a/seed1", "a/seed3"]) == 1
    assert "a/seed3: no such run" in capsys.readouterr().err
