"""Studies with tables: the runs of each row, and the rows that reports show."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from record_factory import make_record, without_drawing, write_runs

from bench import ROOT, report, run
from bench.cli.planned_rows import planned_tables
from bench.records.record import Record, Selected
from bench.reporting.comparison import comparisons
from bench.reporting.planned import PlannedRow, PlannedTable, arranged
from bench.spec.request import Request
from bench.spec.run_specs import all_specs, specs_of
from bench.spec.study import Study, StudyError, StudyRow, load_study, read_study

CONSTANT = {"arch.position_form": "constant"}
ORDERS = "arch.initial_positions"


def test_permutations_of_the_first_m_values() -> None:
    row = StudyRow(label="different", method="normal", set=CONSTANT, permute={ORDERS: [1.0, 1.25, 1.5, 1.75]})
    for data, m, runs in (("office31", 3, 6), ("officehome", 4, 24), ("digits", 4, 24)):
        specs = specs_of(row, data, 0)
        orders = {tuple(spec.overrides[ORDERS]) for spec in specs}
        assert len(orders) == len({spec.variant for spec in specs}) == runs
        assert all(sorted(order) == [1.0, 1.25, 1.5, 1.75][:m] for order in orders)
    with pytest.raises(StudyError, match=r"'different' permutes 4 values .* too few for 40 tasks"):
        specs_of(row, "celeba", 0)


def test_the_ablation_has_every_row_of_the_paper_and_one_run_for_rows_that_are_the_same() -> None:
    study = load_study("ablation")
    with (ROOT / "bench" / "reporting" / "paper" / "table4_ablation.csv").open(encoding="utf-8") as lines:
        published = len(list(csv.DictReader(lines)))
    table4 = next(table for table in study.tables if table.name == "table4")
    assert [row.label for row in table4.rows][-1] == "HPS (EW)" and len(table4.rows) == published + 1
    variants = {spec.variant for row in study.rows for spec in specs_of(row, "digits", 0)}
    rows = sum(len(specs_of(row, "digits", 0)) for row in study.rows)
    assert rows > len(variants) == 46


def test_rows_for_some_of_the_data_sets() -> None:
    study = load_study("shortcuts")
    request = Request(study.rows, study.data, study.seeds)
    errors: list[str] = []
    specs = all_specs(request, study.data, errors)
    assert not errors and len({(spec.data, spec.variant, spec.seed) for spec in specs}) == len(specs)
    spaces = {name: {spec.settings.gramian.grad_space for spec in specs if spec.data == name} for name in study.data}
    assert spaces["digits"] == {"shared", "last_block"}
    assert spaces["rooms"] == spaces["faces"] == {"shared", "last_block", "representation"}
    assert [len(planned_tables(study, name)[0].rows) for name in study.data] == [5, 6, 6]


def test_the_paper_is_run_with_both_protocols_of_nyuv2() -> None:
    study = load_study("paper")
    specs = all_specs(Request(study.rows, study.data, [0]), study.data, [])
    counts = {name: Counter(s.settings.data.protocol for s in specs if s.data == name) for name in study.data}
    assert counts.pop("nyuv2") == {"heldout": 9, "published": 9}
    assert all(count == {"heldout": 9} for count in counts.values())
    with pytest.raises(ValidationError, match="also: expected data sets of the study, found nyuv2"):
        Study.model_validate(
            {"title": "S", "data": ["rooms"], "methods": ["ew"], "also": [{"data": ["nyuv2"], "set": {}}]}
        )
    with pytest.raises(ValidationError, match="also: expected methods in the study"):
        table = {"name": "t", "title": "T", "rows": [{"method": "ew"}]}
        Study.model_validate({"title": "S", "data": ["rooms"], "tables": [table], "also": [{"data": [], "set": {}}]})


def test_a_row_for_a_data_set_that_the_study_lacks_is_refused() -> None:
    row = {"label": "r", "method": "ew", "data": ["nyuv2"]}
    table = {"name": "t", "title": "T", "rows": [row]}
    with pytest.raises(ValidationError, match="row 'r' is for nyuv2, which the study doesn't have"):
        Study.model_validate({"title": "S", "data": ["rooms"], "tables": [table]})


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ("tables: [{name: ../x, title: T, rows: []}]", ["tables.0.name: expected a name of at most 120"]),
        ("methods: [ew]\nfolder: ../../x", ["folder.", "expected a name of at most 120"]),
        ("methods: [ew]\nfolder: ..", ["folder."]),
        (
            "tables: [{name: a, title: T, rows: []}, {name: a, title: T, rows: []}]",
            ["expected each name once, found 'a' again"],
        ),
        ("methods: [ew]\nseeds: [x]\nset: 3", ["seeds.0: ", "set: "]),
        ("methods: &a [ew]", ["expected a study in YAML, found line 3, column 10: expected no anchors and aliases"]),
        ("methods: [ew]\nmethods: [uw]", ["expected each key once, found 'methods' again"]),
        ("", ["expected either methods or tables, found both or none"]),
        ("methods: \xff", ["methods: input should be a valid list"]),
    ],
)
def test_a_study_with_errors_is_refused_in_a_line_for_each(change: str, messages: list[str], tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"title: S\ndata: [digits]\n{change}\n", encoding="utf-8")
    with pytest.raises(StudyError) as error:
        read_study(path)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{path}: ") and len(line) < 400 for line in lines)
    for message in messages:
        assert any(message in line for line in lines), message


def test_a_wrong_setting_names_its_row_unless_all_have_it() -> None:
    rows = [StudyRow(label=label, method=label.lower(), set={"train.lr": [1]}) for label in ("EW", "UW", "MGDA")]
    wrong = "train.lr: Input should be a valid number, found [1]."
    cases = (
        (rows, wrong),
        (rows[:2], f"Row 'EW' and 1 more: {wrong}"),
        (rows[1:2], f"Row 'UW': {wrong}"),
        ([StudyRow(method="ew", set={"train.lr": [1]})], wrong),  # of a command
    )
    for own, message in cases:
        others = [StudyRow(label="PCGrad", method="pcgrad")] if own not in (rows, cases[-1][0]) else []
        errors: list[str] = []
        all_specs(Request([*own, *others], ["digits", "rooms"], [0]), ["digits", "rooms"], errors)
        assert errors == [message]


def test_a_study_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    for make, message in (
        (path.mkdir, "expected a file, found a folder"),
        (lambda: path.write_bytes(b"title: \xff"), "expected text in UTF-8"),
        (lambda: path.write_text("# " + "x" * 1_000_000), "expected at most 1,000,000 characters"),
    ):
        make()
        with pytest.raises(StudyError, match=message):
            read_study(path)
        path.rmdir() if path.is_dir() else path.unlink()


def candidate(order: list[float], seed: int, validation: float, **fields: Any) -> Record:
    overrides = {**CONSTANT, ORDERS: order, "train.epochs": 10}
    name = f"normal@{'-'.join(str(number) for number in order)}"
    selected = Selected(epoch=8, rule="highest mean score on validation", score=validation)
    return make_record("digits", "NORMAL", seed, variant=name, overrides=overrides, **{"selected": selected, **fields})


def planned(*orders: list[float]) -> PlannedTable:
    rows = (
        PlannedRow("Different", tuple(("normal", {**CONSTANT, ORDERS: order}) for order in orders)),
        PlannedRow("EW", (("ew", {}),)),
        PlannedRow("Never run", (("uw", {}),)),
    )
    return PlannedTable("table4", "Ablations", rows)


def test_of_the_candidates_of_a_row_the_best_on_validation_is_shown() -> None:
    first, second, third = [1.0, 1.25], [1.25, 1.0], [1.5, 1.0]
    records = [make_record("digits", "EW", seed, overrides={"train.epochs": 10}) for seed in (0, 1)]
    for seed, better in enumerate((0.9, 0.8)):
        records += [candidate(first, seed, 0.7), candidate(second, seed, better)]
    records.append(candidate(third, 0, 0.99))  # the other seed is lacking
    (comparison,) = comparisons(records)
    assert comparison.common == {"train.epochs": 10}
    (part,) = arranged(comparison, [planned(first, second, third)])
    assert part.folder == "digits/table4" and part.label == "Digits: Ablations"
    assert [variant.label for variant in part.variants] == ["Different", "EW"]
    shown = part.variants[0]
    assert shown.key == "normal@1.25-1.0"
    assert shown.notes == (
        "of 3, 2 of them finished, the best on validation: "
        "arch.initial_positions=[1.25, 1.0], arch.position_form=constant",
    )
    assert part.variants[1].notes == ()


def test_a_table_without_any_run_is_left_out() -> None:
    (comparison,) = comparisons([make_record("digits", "PCGrad", 0)])
    assert arranged(comparison, [planned([1.0, 1.25])]) == ()


def test_the_report_of_a_study_has_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = load_study("ablation")
    records = {}
    for row in study.rows:
        for spec in specs_of(row, "digits", 0):
            label = "NORMAL" if spec.architecture == "normal" else "EW"
            names = {"method": spec.method, "variant": spec.variant, "overrides": dict(spec.overrides)}
            records[spec.variant] = make_record("digits", label, 0).model_copy(update=names)
    write_runs(tmp_path / "results", list(records.values()))
    arguments = ["--study", "ablation", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "reports")]
    with without_drawing():
        assert report.main([*arguments, "--jobs", "1"]) == 0
    capsys.readouterr()
    for table in study.tables:
        text = (tmp_path / "reports" / "digits" / table.name / "scores.md").read_text(encoding="utf-8")
        assert all(row.label in text for row in table.rows), table.name
        assert (tmp_path / "reports" / "digits" / table.name / "scores.tex").is_file()
    index = (tmp_path / "reports" / "README.md").read_text(encoding="utf-8")
    assert "](digits/table4/scores.png)" in index and "](digits/solver/cost.tex)" in index


def test_options_that_do_not_go_with_a_study_of_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    where = ["--results", str(tmp_path), "--data-root", str(tmp_path)]
    assert run.main(["--study", "ablation", "--method", "ew", *where]) == 2
    assert "Expected none of --method, --arch, --weighting" in capsys.readouterr().err
    assert run.main(["--study", "ablation", "--data", "celeba", "--dry-run", *where]) == 2
    error = capsys.readouterr().err
    assert "permutes 4 values" in error and "CelebA" in error


def test_settings_on_the_command_line_go_on_top_of_every_row(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ["--study", "ablation", "--data", "digits", "--dry-run", "--seeds", "0", "--epochs", "2"]
    assert run.main([*options, "--results", str(tmp_path), "--data-root", str(tmp_path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("would run")]
    assert len(lines) == 46 and all("2 epochs" in line for line in lines)
