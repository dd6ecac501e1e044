"""Rows that are left out on request: no number and no mark of the others changes, and every place names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from page_parts import data_of, read_page
from record_factory import METHODS, make_record, make_study, without_drawing, write_runs

from bench.records.record import Record
from bench.report import main
from bench.reporting.comparison import comparisons
from bench.reporting.options import NothingToShow, Options, resolved
from bench.reporting.page.render import PAGE
from bench.reporting.sections import analysed, section_figures, section_tables
from bench.reporting.series import read_curves
from bench.spec.lookup import UnknownName

NAMED = "Left out on request: NORMAL. Marks, ranks and tests count all rows."
SEEDS = range(6)  # enough for marks on three rows


def reported(results: Path, out: Path, *options: str) -> Path:
    with without_drawing():
        assert main(["--results", str(results), "--out", str(out), *options]) == 0
    return out


def test_hidden_rows_change_no_number_and_no_mark_and_are_named(tmp_path: Path) -> None:
    results, methods = tmp_path / "results", ("EW", "UW", "NORMAL")
    write_runs(results, [one for data in ("digits", "rooms") for one in make_study(data, methods, SEEDS)])
    whole, some = reported(results, tmp_path / "all"), reported(results, tmp_path / "some", "--exclude", "normal")
    check_tables(whole, some)
    check_page(whole, some)
    check_titles(whole, some)


def rows_of(path: Path) -> dict[str, str]:
    """The lines of a table in Markdown by their first cell, without the marks of footnotes."""
    text = re.sub(r"<sup>.*?</sup>", "", path.read_text(encoding="utf-8"))
    return {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}


def check_tables(whole: Path, some: Path) -> None:
    places = sorted(path.relative_to(whole) for path in whole.rglob("*.md") if path.name != "README.md")
    assert {"problems", "scores", "verdicts", "times", "budget", "cost"} == {place.stem for place in places}
    bold = 0
    for place in places:
        before, after = rows_of(whole / place), rows_of(some / place)
        assert before.pop("| NORMAL") and after == before, place
        bold += "**" in str(before)
        note = (some / place).read_text(encoding="utf-8")
        assert NAMED in note and "Left out on request" not in (whole / place).read_text(encoding="utf-8"), place
    assert bold
    for place in ("digits/scores.md", "rooms/verdicts.md"):  # whatever else notes say stays as it was
        notes = [(folder / place).read_text(encoding="utf-8").split("\n\n")[2] for folder in (whole, some)]
        assert notes[1].replace(f" {NAMED}", "") == notes[0] and "With 80 % power" in notes[0]


def check_page(*folders: Path) -> None:
    whole, some = (read_page(folder / PAGE) for folder in folders)
    cards = [[card for card in page.all("article") if "card" in card.attributes["class"]] for page in (whole, some)]
    for before, after in zip(*cards, strict=True):
        for part in ("headline", "remark"):
            texts = [next(card.all("p", class_=part)).text for card in (before, after)]
            assert texts[0] == texts[1]
        assert NAMED in after.text and "Left out" not in before.text
        chips = [{chip.text.split(" ")[0] for chip in card.all("button", class_="chip")} for card in (before, after)]
        assert chips[0] - chips[1] == {"NORMAL"} and chips[1] == {"UW"}
    assert [row["label"] for row in data_of(some)["rows"]] == ["EW", "UW"] * 2
    states = [next(page.all("p", class_="states")).text for page in (whole, some)]
    assert states[0] == states[1]


def check_titles(*folders: Path) -> None:
    for folder, named in zip(folders, (False, True), strict=True):
        lines = [line for line in (folder / "README.md").read_text(encoding="utf-8").splitlines() if line[:2] == "!["]
        assert len(lines) > 8
        titles = [line for line in lines if "positions-" not in line]
        assert all(("Left out on request: NORMAL]" in line) == named for line in titles)
        assert len(titles) < len(lines) or named  # positions of hidden rows aren't drawn


def test_figures_draw_the_rows_that_are_shown(tmp_path: Path) -> None:
    records = make_study("digits", METHODS, (0, 1))
    write_runs(tmp_path, records)
    (comparison,) = comparisons(records)
    curves = read_curves(tmp_path, comparison)
    analysis = analysed(tmp_path, comparison, curves, Options(methods=("EW", "UW", "MGDA")))
    figures = section_figures(tmp_path, analysis, curves, ())
    assert {"scores", "differences", "gains", "cost", "curves", "times"} <= figures.keys()
    for name, figure in figures.items():
        legends = [text for legend in figure.legends for text in legend.get_texts()]
        texts = {text.get_text() for axes in figure.axes for text in axes.get_yticklabels()}
        texts |= {text.get_text() for text in legends}
        assert "UW" in texts and not texts & {"NORMAL", "IMTL", "CAGrad"}, name


def test_columns_of_methods_are_left_out_like_rows(tmp_path: Path) -> None:
    (comparison,) = comparisons(make_study("faces", ("EW", "UW", "NORMAL"), (0, 1)))
    curves = read_curves(tmp_path, comparison)
    whole, some = (
        {table.name: table for table in section_tables(analysed(tmp_path, comparison, curves, options), Options())}
        for options in (Options(), Options(exclude=("UW",)))
    )
    heads = [[column.head.text for column in tables["tasks-accuracy"].columns] for tables in (whole, some)]
    assert heads[0][:3] == ["EW", "UW", "NORMAL"] and heads[1] == [heads[0][0], *heads[0][2:]]
    for before, after in zip(whole["tasks-accuracy"].rows, some["tasks-accuracy"].rows, strict=True):
        assert after.cells == (before.cells[0], *before.cells[2:])


def with_settings() -> list[Record]:
    records = make_study("digits", ("EW", "NORMAL"), (0, 1))
    settings = {"variant": "normal@1", "overrides": {"train.lr": 0.1}}
    return [*records, *(make_record("digits", "NORMAL", seed, **settings) for seed in (0, 1))]


def test_rows_are_named_as_reports_print_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = "NORMAL (train.lr=0.1)"
    write_runs(tmp_path / "results", with_settings())
    found = rows_of(reported(tmp_path / "results", tmp_path / "out", "--exclude", label) / "digits" / "scores.md")
    assert "| NORMAL" in found and f"| {label}" not in found
    assert resolved(Options(methods=("normal (TRAIN.LR=0.1)",)), comparisons(with_settings())).methods == (label,)
    capsys.readouterr()
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "no"), "--exclude", "nash"]) == 2
    assert "Unknown row or method among the records 'nash'." in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_labels_that_differ_in_a_sign_are_told_apart() -> None:
    settings = [{"variant": f"uw@{place}", "overrides": {"weighting.c": c}} for place, c in enumerate((1.0, -1.0))]
    (comparison,) = comparisons([make_record("digits", "EW"), *(make_record(method="UW", **one) for one in settings)])
    for label in (variant.label for variant in comparison.variants):
        assert resolved(Options(exclude=(label,)), [comparison]).exclude == (label,)


def test_problems_without_a_row_to_show_are_named(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_runs(results, [*make_study("digits", ("EW", "NORMAL"), (0, 1)), *make_study("rooms", ("EW", "UW"), (0, 1))])
    out = reported(results, tmp_path / "out", "--methods", "NORMAL")
    named = "Left out on request, since none of their rows is shown: Rooms."
    index, page = (out / "README.md").read_text(encoding="utf-8"), read_page(out / PAGE)
    assert named in index and named in page.text and "## Rooms" not in index
    assert (out / "digits").is_dir() and not (out / "rooms").exists()
    assert [row["label"] for row in data_of(page)["rows"]] == ["NORMAL"]
    assert "not ranked: it has no run on Rooms" in (out / "problems.md").read_text(encoding="utf-8")


def test_data_sets_that_are_not_updated_keep_their_rows_in_the_index(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_runs(results, [*make_study("digits", ("EW", "NORMAL"), (0, 1)), *make_study("rooms", ("EW", "UW"), (0, 1))])
    before = (reported(results, tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    out = reported(results, tmp_path / "out", "--data", "digits", "--methods", "NORMAL")
    after = (out / "README.md").read_text(encoding="utf-8")
    assert after.split("\n## Rooms")[1] == before.split("\n## Rooms")[1]
    assert "since none of their rows is shown" not in after


@pytest.mark.parametrize("names", [["--methods", "NORMAL", "--exclude", "normal"], ["--exclude", "EW", "NORMAL"]])
def test_no_row_to_show_is_one_line(names: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "results", make_study("digits", ("EW", "NORMAL"), (0,)))
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out"), *names]) == 2
    error = capsys.readouterr().err
    assert error == "--methods, --exclude: expected to show some of these rows, found none: EW; NORMAL.\n"
    assert not (tmp_path / "out").exists()


def test_names_are_those_of_the_comparisons_that_are_printed() -> None:
    compared = comparisons([make_record("digits", "EW"), make_record("rooms", "UW")])
    with pytest.raises(UnknownName, match="'UW'"):
        resolved(Options(methods=("UW",)), compared[:1])
    assert resolved(Options(methods=("UW",)), compared).methods == ("UW",)
    with pytest.raises(NothingToShow):
        resolved(Options(exclude=("EW", "UW")), compared)
    assert resolved(Options(), ()) == Options()
