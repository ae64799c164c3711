"""The README's figure is up to date, well-formed, and shows every residual scheme and sharing strategy."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import ROOT

from docs.build import draw_figure

FIGURE = ROOT / "docs/figure.svg"
SVG = "{http://www.w3.org/2000/svg}"


def texts(group_id: str) -> list[ElementTree.Element]:
    """Return the text elements of one group of the figure on disk, the lowest first."""
    root = ElementTree.parse(FIGURE).getroot()
    group = next(group for group in root.iter(f"{SVG}g") if group.get("id") == group_id)
    elements = [element for element in group.iter(f"{SVG}text") if "y" in element.attrib]
    return sorted(elements, key=lambda element: -int(element.attrib["y"]))


def contents(group_id: str, style: str) -> list[str]:
    """Return what the texts of one class in one group say, the lowest first."""
    return ["".join(element.itertext()) for element in texts(group_id) if element.get("class") == style]


def test_figure_on_disk_is_up_to_date() -> None:
    assert draw_figure.main(["--check"]) == 0


def test_check_refuses_a_missing_or_changed_figure_and_a_run_repairs_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figure = tmp_path / "figure.svg"
    monkeypatch.setattr(draw_figure, "FIGURE", figure)
    assert draw_figure.main(["--check"]) == 1
    figure.write_text("<svg/>", encoding="utf-8")
    assert draw_figure.main(["--check"]) == 1
    assert "out of date: run python -m docs.build.draw_figure" in capsys.readouterr().err
    assert figure.read_text(encoding="utf-8") == "<svg/>"
    assert draw_figure.main([]) == 0
    assert draw_figure.main(["--check"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["figure.svg"]


def test_figure_is_described_for_screen_readers() -> None:
    root = ElementTree.parse(FIGURE).getroot()
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title")
    assert "cycle_rev: 0 1 2 2 1 0" in root.findtext(f"{SVG}desc")


@pytest.mark.parametrize(
    ("name", "blocks", "equations"),
    [
        ("Post-LN", ["SA", "LN", "FFN", "LN"], ["h = LN(x + SA(x))", "out = LN(h + FFN(h))"]),
        ("Pre-LN", ["LN", "SA", "LN", "FFN"], ["h = x + SA(LN(x))", "out = h + FFN(LN(h))"]),
        ("B2T", ["SA", "LN", "FFN", "LN"], ["h = LN(x + SA(x))", "out = LN(x + h + FFN(h))"]),
    ],
)
def test_each_scheme_has_its_name_blocks_and_equations(name: str, blocks: list[str], equations: list[str]) -> None:
    group = f"scheme-{name}"
    assert contents(group, "name") == [name]
    assert contents(group, "block-name") == blocks
    assert contents(group, "equation")[::-1] == equations


def test_only_b2t_has_the_bottom_to_top_connection() -> None:
    root = ElementTree.fromstring(draw_figure.draw())
    paths = {
        group.get("id"): [path for path in group.iter(f"{SVG}path") if path.get("class") == "bypass"]
        for group in root.iter(f"{SVG}g")
    }
    assert [name for name, bypasses in paths.items() if bypasses] == ["scheme-B2T"]


@pytest.mark.parametrize(
    ("strategy", "indices"),
    [("sequence", "0 0 1 1 2 2"), ("cycle", "0 1 2 0 1 2"), ("cycle_rev", "0 1 2 2 1 0")],
)
def test_each_strategy_shows_its_index_list_from_the_first_layer_up(strategy: str, indices: str) -> None:
    group = f"sharing-{strategy}"
    assert contents(group, "set-number") == indices.split()
    assert contents(group, "flag") + contents(group, "name") == ["--layer-sharing", strategy]
