"""b2t score on runs and b2t table, against sacreBLEU's own command line and numbers worked out here."""

import itertools
import json
import os
import random
import re
import stat
from argparse import Namespace

import numpy as np
import pytest
import sacrebleu
import torch
from commands import run
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from helpers import make_model
from sacrebleu.dataset import DATASETS

from b2t_cli import main as b2t
from b2t_cli.runs.checkpoint_model import describe
from b2t_cli.scoring import published
from b2t_cli.scoring.matching import matching
from b2t_cli.scoring.newstest import NEWSTESTS, references, sources
from b2t_cli.tables import RULE, Table
from b2t_fairseq import checkpoints
from b2t_fairseq.building import build_without_data
from b2t_fairseq.settings.fields import as_namespace

SEGMENTS = 12
DEEP = {"encoder_layers": 18, "decoder_layers": 18}
SIX_SETS = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 6, "decoder_unique_layers": 6}
POST_LN = {"residual": "post_ln"}


def wmt_settings(**flags):
    """Return the settings of a base model of the papers, 6-6 layers unless told otherwise."""
    given = {"share_all_embeddings": True, "decoder_attention_heads": 8, **flags}
    return {**vars(as_namespace(Namespace(**given))), "_name": "b2t_transformer"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """sacreBLEU with a small cache of its own; line separators that are none lie in its references."""
    folder, generator = tmp_path / "sacrebleu", random.Random(0)
    for name in NEWSTESTS.values():
        outdir = folder / name
        outdir.mkdir(parents=True)
        lines = [" ".join(f"wort{generator.randrange(30)}" for _ in range(12)) + "." for _ in range(SEGMENTS)]
        lines[3] = lines[3].replace(" ", "\u2028", 1).replace(" ", "\u0085", 1)
        stem = f"{name.replace('/', '_')}.en-de"
        for field in ("src", "ref", "docid", "genre", "origlang"):
            (outdir / f"{stem}.{field}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        monkeypatch.setattr(DATASETS[name], "_outdir", str(outdir))
        monkeypatch.setattr(DATASETS[name], "_rawdir", str(outdir / "raw"))
    monkeypatch.setattr(sacrebleu.utils, "SACREBLEU_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def make_run(folder, seed, names=NEWSTESTS, drop=0.2, **flags):
    """Write a run whose translations are the references without some of their words."""
    (folder / "evaluation").mkdir(parents=True)
    generator = random.Random(seed)
    for name in names:
        output = []
        for number, line in enumerate(references(name)):
            words = [word for word in line.split(" ") if generator.random() >= drop]
            best, second = " ".join(words), "another"
            output += [f"S-{number}\tsource", f"D-{number}\t-0.3\t{best}", f"D-{number}\t-0.4\t{second}"]
        groups = [output[i : i + 3] for i in range(0, len(output), 3)]
        generator.shuffle(groups)
        text = "\n".join(line for group in groups for line in group)
        (folder / f"evaluation/{name}.generated.txt").write_text(text + "\n", encoding="utf-8")
    embedding = torch.zeros(8, 512)
    model = {f"{stack}.embed_tokens.weight": embedding for stack in ("encoder", "decoder")}
    checkpoints.save({"model": model, "cfg": {"model": wmt_settings(**flags)}}, folder / "evaluation/averaged.pt")
    return folder


def scores(folder, name="scores"):
    return json.loads((folder / f"evaluation/{name}.json").read_text())


def test_published_averages_are_the_means():
    rows = published.results()
    assert len(rows) == 13
    for row in rows:
        assert len(row["bleu"]) == len(NEWSTESTS)
        assert np.mean(row["bleu"]) == pytest.approx(row["average"], abs=0.01), row["model"]


WORD_DROPOUT = {"encoder_word_dropout": 0.1, "decoder_word_dropout": 0.1}
MATCHES = [
    ({**POST_LN}, ["Vanilla"]),
    ({**POST_LN, **DEEP, **SIX_SETS}, ["Cycle (rev)"]),
    ({**POST_LN, **DEEP, **SIX_SETS, "layer_sharing": "sequence"}, ["Sequence"]),
    ({**DEEP}, ["B2T (paper)"]),
    ({**DEEP, **WORD_DROPOUT, "depth_scaled_init": True, "dropout": 0.5}, ["B2T (release, 2023)"]),
    ({**DEEP, **WORD_DROPOUT, "depth_scaled_init": True, "dropout": 0.3}, []),
    ({**DEEP, "residual": "pre_ln"}, ["Pre-LN"]),
    ({**DEEP, **SIX_SETS}, []),
    ({**POST_LN, **DEEP}, ["Post-LN, 18L-18L"]),
    ({}, ["B2T, 6L-6L"]),
    ({"encoder_ffn_embed_dim": 1024}, []),
    ({"decoder_layers": 3}, []),
]


@pytest.mark.parametrize(("flags", "models"), MATCHES)
def test_papers_results_with_the_settings_of_a_run(flags, models):
    assert [row["model"] for row in matching(wmt_settings(**flags))] == models


@pytest.mark.parametrize("strategy", ["sequence", "cycle", "cycle_rev"])
def test_one_parameter_set_is_the_universal_transformer(strategy):
    size = {"encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096}
    heads = {"encoder_attention_heads": 16, "decoder_attention_heads": 16}
    sharing = {"layer_sharing": strategy, "encoder_unique_layers": 1, "decoder_unique_layers": 1}
    found = matching(wmt_settings(**POST_LN, **size, **heads, **sharing))
    assert [row["model"] for row in found] == ["Universal"]


def settings_of(*flags):
    args = options.parse_args_and_arch(options.get_training_parser(), ["data", "--task", "translation", *flags])
    return checkpoints.flat_settings(convert_namespace_to_omegaconf(args).model)


SIX = ["--encoder-unique-layers", "6", "--decoder-unique-layers", "6"]
ONE = ["--encoder-unique-layers", "1", "--decoder-unique-layers", "1"]


@pytest.mark.parametrize(
    ("flags", "width", "millions"),
    [
        (["--arch", "b2t_transformer_wmt_en_de"], 512, "60.9"),
        (["--arch", "b2t_transformer_wmt_en_de_18l"], 512, "149.2"),
        (["--arch", "b2t_transformer_wmt_en_de_18l", "--layer-sharing", "cycle_rev", *SIX], 512, "60.9"),
        (["--arch", "b2t_transformer_wmt_en_de_big", "--layer-sharing", "cycle", *ONE], 1024, "62.9"),
        (["--arch", "transformer_wmt_en_de"], 512, "60.9"),
    ],
)
def test_parameters_of_the_papers_models(flags, width, millions):
    settings = settings_of(*flags, "--share-all-embeddings")
    with torch.device("meta"):
        model = build_without_data(settings, 32768, model_class=ARCH_MODEL_REGISTRY[settings["arch"]])
    state = {"model": model.state_dict(), "cfg": {"model": settings}}
    assert f"{describe(state)['parameters'] / 1e6:.1f}" == millions
    if flags == ["--arch", "transformer_wmt_en_de"]:
        (row,) = matching(describe(state)["settings"])
        assert row["model"] == "Vanilla"


@pytest.mark.parametrize("flags", [{}, {"share_all_embeddings": False}, {**SIX_SETS, "encoder_unique_layers": 2}])
def test_parameters_are_those_that_the_model_logs(flags, caplog):
    with caplog.at_level("INFO", logger="b2t_fairseq"):
        model = make_model(**flags)
    logged = re.search(r"([\d,]+) parameters", caplog.text).group(1)
    settings = {"encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32, "_name": "b2t_transformer"}
    settings |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "share_all_embeddings": True, **flags}
    diverged = {name: torch.full_like(tensor, torch.nan) for name, tensor in model.state_dict().items()}
    for state in (model.state_dict(), diverged):
        count = describe({"model": state, "cfg": {"model": settings}})["parameters"]
        assert f"{count:,}" == logged


def test_scores_are_those_of_sacrebleus_command(cache, tmp_path, capsys):
    folder = make_run(tmp_path / "run", 1)
    assert b2t(["score", "run"]) == 0
    hypotheses = (folder / "evaluation/newstest2014.de").read_text(encoding="utf-8").split("\n")
    assert len(hypotheses) == SEGMENTS + 1
    for hypothesis, reference in zip(hypotheses, references("newstest2014"), strict=False):
        assert set(hypothesis.split()) <= set(reference.split())
    assert any("\u2028" in line or "\u0085" in line for line in hypotheses)
    result = run(
        "sacrebleu",
        *("-t", "wmt14/full", "-l", "en-de", "-i", str(folder / "evaluation/newstest2014.de")),
        *("-m", "bleu", "chrf", "-w", "9"),
        SACREBLEU=str(cache),
    )
    found = scores(folder)["sets"]["newstest2014"]["metrics"]
    for theirs in json.loads(result.stdout):
        assert found[theirs["name"]]["score"] == pytest.approx(theirs["score"], abs=1e-8)
        assert found[theirs["name"]]["signature"] == theirs["signature"]
    assert len(found) == 2
    assert f"{found['BLEU']['score']:.2f}" in capsys.readouterr().out


def test_missing_translation_is_refused_with_the_sets_name(cache, tmp_path, capsys):
    folder = make_run(tmp_path / "run", 1)
    file = folder / "evaluation/newstest2013.generated.txt"
    lines = [line for line in file.read_text(encoding="utf-8").split("\n") if not line.startswith("D-7\t")]
    file.write_text("\n".join(lines) + "D-7", encoding="utf-8")
    assert b2t(["score", "run"]) == 1
    message = capsys.readouterr().err
    assert "newstest2013.generated.txt has 11 translations for 12 references; missing sentences: 7" in message
    assert not (folder / "evaluation/scores.json").exists()


def test_average_needs_all_seven(cache, tmp_path, capsys):
    names = [name for name in NEWSTESTS if name not in ("newstest2011", "newstest2016")]
    folder = make_run(tmp_path / "my/run", 1, names, **DEEP)
    assert b2t(["score", "my/run"]) == 0
    shown = capsys.readouterr().out
    assert "no average: newstest2011, newstest2016 missing" in shown
    assert "B2T (paper) *" in shown
    assert "* B2T (paper) has the settings of my/run; dropout" in shown
    found = scores(folder)
    assert found["average"] is None
    assert found["published"][0]["difference"] is None
    assert list(found["sets"]) == names


def test_tables_and_numbers_agree(cache, tmp_path, capsys):
    folder = make_run(tmp_path / "my/run_1", 1, **DEEP)
    assert b2t(["score", "my/run_1"]) == 0
    shown = capsys.readouterr().out
    found = scores(folder)
    markdown, latex = ((folder / f"evaluation/scores.{ending}").read_text() for ending in ("md", "tex"))
    for metric in ("BLEU", "chrF2"):
        values = [found["sets"][name]["metrics"][metric]["score"] for name in NEWSTESTS]
        assert found["average"][metric] == pytest.approx(np.mean(values))
        cells = [f"{value:.2f}" for value in [*values, np.mean(values)]]
        assert " | ".join(cells) in markdown
        assert " & ".join(cells) in latex
        assert "  ".join(cells[:-1]) in shown
    difference = found["average"]["BLEU"] - 27.30
    assert found["published"][0]["difference"] == pytest.approx(difference)
    for text in (shown, markdown, latex):
        assert f"difference {difference:+.2f}" in text
        assert text.count("24.62") == 1
    assert r"B2T (paper) \* |" in markdown
    assert r"my/run\_1 & BLEU" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\toprule") == latex.count(r"\end{tabular}") == 1
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {row.count(" & ") for row in rows} == {13}
    assert len(rows) == 1 + 2 + 13


def test_latex_escapes():
    table = Table("title", ["a_b", "c"], [["50%_{x}~^\\ & #$", "-"], RULE, ["[a]", "-0.12"], ["*", "1.00 ± 0.10"]])
    lines = table.latex().splitlines()
    assert r"a\_b & c \\" in lines
    assert r"50\%\_\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{} \& \#\$ & -- \\" in lines
    assert r"{}[a] & $-$0.12 \\" in lines
    assert r"{}* & 1.00 $\pm$ 0.10 \\" in lines
    assert lines.count(r"\midrule") == 2


def test_bootstrap_is_that_of_sacrebleus_command(cache, tmp_path, capsys):
    runs = {"x/a/seed1": 0.2, "y/a/seed1": 0.3}
    folders = [make_run(tmp_path / name, seed, drop=drop) for seed, (name, drop) in enumerate(runs.items())]
    assert b2t(["score", *runs, "--bootstrap-samples", "60", "--output", "against"]) == 0
    shown = capsys.readouterr().out
    result = run(
        "sacrebleu",
        *("-t", "wmt14/full", "-l", "en-de", "-m", "bleu", "chrf", "-w", "2", "-f", "text", "-nc", "-q"),
        *("-pbs", "-pbsn", "60", "-i", *(str(folder / "evaluation/newstest2014.de") for folder in folders)),
        SACREBLEU=str(cache),
        SACREBLEU_FORMAT="text",
    )
    found = json.loads((tmp_path / "against.json").read_text())
    assert [entry["run"] for entry in found["runs"]] == list(runs)
    assert found["bootstrap"]["sets"].keys() == NEWSTESTS.keys()
    markdown, latex = ((tmp_path / f"against.{ending}").read_text() for ending in ("md", "tex"))
    for metric, test in found["bootstrap"]["sets"]["newstest2014"].items():
        assert re.search(rf"{metric} +{re.escape(test['signature'])}", result.stdout)
        for entry in test["runs"]:
            values = f"{entry['score']:.2f} ({entry['mean']:.2f} ± {entry['ci']:.2f})"
            assert values in result.stdout
            assert f"{entry['score']:.2f} | {entry['mean']:.2f} ± {entry['ci']:.2f}" in markdown
            assert rf"{entry['score']:.2f} & {entry['mean']:.2f} $\pm$ {entry['ci']:.2f}" in latex
        p_value = test["runs"][1]["p_value"]
        assert f"(p = {p_value:.4f})" in result.stdout
        assert f"{p_value:.4f}" in shown
        difference = test["runs"][1]["score"] - test["runs"][0]["score"]
        assert test["runs"][1]["difference"] == pytest.approx(difference)
    assert [scores(folder)["sets"] for folder in folders] == [entry["sets"] for entry in found["runs"]]


def test_identical_translations_are_no_significant_difference(cache, tmp_path, capsys):
    for name in ("a", "b"):
        make_run(tmp_path / name, 1, ["newstest2010"])
    assert b2t(["score", "a", "b", "--bootstrap-samples", "30"]) == 0
    assert capsys.readouterr().out.count(" identical\n") == 2
    tests = scores(tmp_path / "a", "comparison")["bootstrap"]["sets"]["newstest2010"]
    assert tests["BLEU"]["runs"][1]["p_value"] is None


def test_empty_translations_score_nothing(cache, tmp_path):
    make_run(tmp_path / "a", 1, ["newstest2010", "newstest2011"])
    folder = make_run(tmp_path / "b", 2, ["newstest2010"], drop=1)
    assert b2t(["score", "a", "b", "--bootstrap-samples", "30"]) == 0
    metrics = scores(folder)["sets"]["newstest2010"]["metrics"]
    assert metrics["BLEU"]["score"] == metrics["chrF2"]["score"] == 0
    assert list(scores(tmp_path / "a", "comparison")["bootstrap"]["sets"]) == ["newstest2010"]


COMET = """#!/bin/sh
echo "$@" >>"$COMET_LOG"
[ "$(wc -l <"$2")" = 12 ] && [ "$(wc -l <"$4")" = 12 ] && [ "$(wc -l <"$6")" = 12 ] || exit 3
[ -z "$COMET_FAILS" ] || { echo "no such model" >&2; exit 1; }
printf '%s\\tscore: 0.8125\\n' "$4"
"""


def test_comet(cache, tmp_path, monkeypatch, capsys):
    folder = make_run(tmp_path / "run", 1, ["newstest2010", "newstest2014"])
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert b2t(["score", "run", "--comet"]) == 1
    assert "pip install unbabel-comet" in capsys.readouterr().err
    command = tmp_path / "comet-score"
    command.write_text(COMET)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setenv("COMET_LOG", str(tmp_path / "log"))
    assert b2t(["score", "run", "--comet", "Unbabel/wmt22-comet-da"]) == 0
    assert re.search(r"COMET x100 .* 81\.25", capsys.readouterr().out)
    found = scores(folder)["sets"]["newstest2014"]["metrics"]["COMET"]
    assert found == {"score": 0.8125, "signature": "model:Unbabel/wmt22-comet-da"}
    calls = (tmp_path / "log").read_text().splitlines()
    assert len(calls) == 2
    assert all("--only_system --quiet --model Unbabel/wmt22-comet-da" in call for call in calls)
    monkeypatch.setenv("COMET_FAILS", "1")
    assert b2t(["score", "run", "--comet"]) == 1
    assert "failed with exit status 1: no such model" in capsys.readouterr().err


def test_test_set_that_cannot_be_had(cache, tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run", 1)
    (cache / "wmt12/wmt12.en-de.ref").unlink()

    def no_network(self):
        raise OSError("no network here")

    monkeypatch.setattr("sacrebleu.dataset.base.Dataset.maybe_download", no_network)
    assert b2t(["score", "run"]) == 1
    message = capsys.readouterr().err
    assert all(words in message for words in ("newstest2012", "SACREBLEU", "no network here", str(cache)))
    assert b2t(["score", "run", "--language-pair", "en-xx"]) == 1
    assert "--language-pair en-xx" in capsys.readouterr().err
    (cache / "wmt10/wmt10.en-de.src").write_text("cut short\n")
    assert b2t(["score", "run"]) == 1
    assert "1 sources and 12 references of newstest2010" in capsys.readouterr().err
    assert len(sources("newstest2011")) == SEGMENTS


def test_contradictory_flags_are_refused(cache, tmp_path, capsys):
    make_run(tmp_path / "run", 1, ["newstest2010"])
    make_run(tmp_path / "other", 1, ["newstest2010"])
    (tmp_path / "empty/evaluation").mkdir(parents=True)
    file = "run/evaluation/newstest2010.generated.txt"
    for flags, quoted in [
        ([file], [file, "--reference"]),
        ([file, "other", "--reference", file], ["--reference", "not 2"]),
        ([file, "--reference", file, "--comet"], ["--comet", "--reference"]),
        ([file, "--reference", file, "--bootstrap-samples", "5"], ["--bootstrap-samples"]),
        (["run", "--output", "x"], ["--output x", "run"]),
        (["run", "--bootstrap-samples", "5"], ["--bootstrap-samples 5"]),
        (["run", "other", "--bootstrap-samples", "0"], ["--bootstrap-samples 0"]),
        (["run", "other", "--output", "nowhere/x"], ["there is no folder nowhere"]),
        (["run", "run/"], ["given twice"]),
        (["--comet", "run", "other"], ["--comet run is a folder"]),
        (["empty"], ["empty/evaluation", "newstest2010.generated.txt", "scripts/evaluate.sh empty"]),
    ]:
        assert b2t(["score", *flags]) == 1
        message = capsys.readouterr().err
        assert all(words in message for words in quoted), message


def write_log(folder, *starts):
    """Write a log with one list of (loss, words per second) for each start, 50 updates apart; a string is a line."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, updates = [], itertools.count(50, 50)
    for start in starts:
        lines.append("2026-01-01 00:00:00 | INFO | fairseq_cli.train | training on 1 devices (GPUs/TPUs)")
        for report in start:
            if isinstance(report, str):
                lines.append(report)
            else:
                loss, speed = report
                lines.append(f"2026-01-01 00:00:00 | INFO | train_inner | epoch 001:     50 / 646 loss={loss}, "
                             f"nll_loss=1.5, ppl=2.8, wps={speed}, ups=12.61, num_updates={next(updates)}")  # fmt: skip
    (folder / "train.log").write_text("\n".join(lines) + "\n")


CRASH = "[rank0]: FloatingPointError: gradients are Nan/Inf"


def test_table_over_seeds(cache, tmp_path, capsys):
    folders = [make_run(tmp_path / f"sweep/b2t/seed{seed}", seed, **DEEP) for seed in (1, 2, 3)]
    write_log(folders[0], [(9.1, 10), (8.1, 1000), (7.1, 1100)], [(6.9, 20), (6.5, 1200)])
    write_log(folders[1], [(9.1, 10), ("nan", 1000), CRASH], [(8.5, 900), (6.5, 1300.5)])
    write_log(folders[2], [(9.1, 10), (8.0, 1000)], [(7.9, 10), CRASH])
    single = make_run(tmp_path / "sweep/shared_seed7", 4, **POST_LN, **SIX_SETS, **DEEP)
    write_log(single, [(9.1, 10), (8.1, 500), (8.0, 600)])
    for seed in (1, 2):
        write_log(tmp_path / f"sweep/post_ln/seed{seed}", [(9.1, 10), ("inf", 1000)])
    runs = [f"sweep/b2t/seed{seed}" for seed in (1, 2, 3)]
    runs += ["sweep/shared_seed7", "sweep/post_ln/seed1", "sweep/post_ln/seed2"]
    assert b2t(["table", *runs]) == 1
    shown = capsys.readouterr().out
    assert "b2t/seed1 left out: no scores; make them with `bash scripts/evaluate.sh sweep/b2t/seed1`" in shown
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


def test_table_refuses_what_cannot_be_compared(cache, tmp_path, capsys):
    for seed, flags in ((1, {}), (2, {"encoder_layers": 3})):
        folder = make_run(tmp_path / f"a/seed{seed}", seed, ["newstest2010"], **flags)
        assert b2t(["score", str(folder)]) == 0
        write_log(folder, [(9.1, 10), (8.1, 1000)])
    capsys.readouterr()
    assert b2t(["table", "a/seed1", "a/seed2"]) == 1
    assert "a/seed2 is not another seed of a/seed1: encoder_layers is 3 there and 6" in capsys.readouterr().err
    found = scores(folder)
    found["sets"]["newstest2010"]["metrics"]["BLEU"]["signature"] = "tok:intl"
    (folder / "evaluation/scores.json").write_text(json.dumps(found))
    assert b2t(["table", "a/seed1", "a/seed2"]) == 1
    assert "newstest2010 is scored as tok:intl en-de in a/seed2" in capsys.readouterr().err


def test_table_leaves_failed_runs_out(cache, tmp_path, capsys):
    """What has finished is shown; the exit status says that not everything has."""
    for seed in (1, 2):
        folder = make_run(tmp_path / f"a/seed{seed}", seed, ["newstest2010"])
        assert b2t(["score", str(folder)]) == 0
        write_log(folder, [(9.1, 10), (8.1, 1000)])
    write_log(folder, [])
    for fault in ("a/seed2/train.log has no report of a loss", "no train.log"):
        capsys.readouterr()
        assert b2t(["table", "a/seed1", "a/seed2", "--output", "table"]) == 1
        shown = capsys.readouterr().out
        assert f"a/seed2 left out: {fault}" in shown
        assert re.search(r"\na +1 of 2 +\d", shown)
        (folder / "train.log").unlink(missing_ok=True)
    assert b2t(["table", "a/seed1", "a/seed3"]) == 1
    assert "a/seed3: no such run" in capsys.readouterr().err
