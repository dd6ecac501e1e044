"""Tables: what is averaged, what is bold, what is missing and why."""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from record_factory import DIGITS, MANY, even_scores, make_record, make_study, make_unfinished

from bench.records.record import Record, Scores, Selected, Timing
from bench.records.store import RecordError
from bench.reporting.comparison import comparisons
from bench.reporting.options import Options, Spread
from bench.reporting.render import comma_separated, estimated_width, latex, markdown
from bench.reporting.tables.cost import cost_table
from bench.reporting.tables.published import published
from bench.reporting.tables.runs import run_files
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.splitting import split
from bench.reporting.tables.table import Cell, Table

DELTA = 9  # the column of Δ_b on rooms


def plain_scores(*accuracies: float) -> Scores:
    """Accuracies of the tasks of digits."""
    return {task.key: {"accuracy": value} for task, value in zip(DIGITS, accuracies, strict=True)}


def run(method: str, seed: int, accuracy: float, **fields: object) -> Record:
    return make_record("digits", method, seed, test=plain_scores(*[accuracy] * 4), **fields)


def main_table(records: Sequence[Record], spread: Spread = "none") -> Table:
    (comparison,) = comparisons(records)
    return score_tables(comparison, Options(spread=spread))[0]


def cell(table: Table, row: str, column: int) -> Cell:
    return next(r for r in table.rows if r.head.text == row).cells[column]


def notes_of(table: Table, row: str) -> tuple[str, ...]:
    return next(r for r in table.rows if r.head.text == row).head.notes


def test_cells_hold_the_mean_and_the_deviation_with_n_minus_1() -> None:
    records = [run("EW", seed, value) for seed, value in enumerate((0.1, 0.2, 0.3))]
    found = cell(main_table(records, spread="sd"), "EW", 0)
    assert found.mean == pytest.approx(0.2)
    assert found.sd == pytest.approx(0.1)
    assert found.seeds == (0, 1, 2)
    assert found.text == "20.00 ± 10.00"
    assert cell(main_table(records), "EW", 0).text == "20.00"


def test_average_is_over_tasks() -> None:
    record = make_record("digits", test=plain_scores(0.1, 0.2, 0.3, 0.8))
    assert [c.text for c in main_table([record]).rows[0].cells][:5] == ["10.00", "20.00", "30.00", "80.00", "35.00"]


def noisy(method: str, centre: float, seeds: int = 8, **fields: object) -> list[Record]:
    """Runs around an accuracy; the noise of a seed is not that of another method."""
    draws = [random.Random(f"{method} {seed}").gauss(0, 0.01) for seed in range(seeds)]
    return [run(method, seed, centre + draw, **fields) for seed, draw in enumerate(draws)]


def test_the_best_mean_and_what_is_not_separable_from_it_are_bold() -> None:
    table = main_table([*noisy("EW", 0.9), *noisy("UW", 0.902), *noisy("MGDA", 0.8)])
    assert [cell(table, row, 0).bold for row in ("EW", "UW", "MGDA")] == [True, True, False]
    assert "Bold: rows with every seed finished that may be the best of a column" in table.note


def test_few_seeds_make_nothing_bold_and_the_caption_says_why() -> None:
    table = main_table([*noisy("EW", 0.9, 4), *noisy("MGDA", 0.8, 4)])
    assert not any(c.bold for row in table.rows for c in row.cells)
    assert "Nothing is bold: 4 seeds (fewer than 5) can't tell rows apart." in table.note


def test_lowest_is_bold_where_lower_is_better() -> None:
    better = even_scores("rooms")
    better["depth"]["abs"] *= 0.5
    table = main_table(
        [make_record("rooms", "EW", seed) for seed in range(6)]
        + [make_record("rooms", "UW", seed, test=better) for seed in range(6)]
    )
    assert (cell(table, "EW", 2).bold, cell(table, "UW", 2).bold) == (False, True)
    assert (cell(table, "EW", 3).bold, cell(table, "UW", 3).bold) == (True, True)  # equal everywhere else


def test_the_dummy_baseline_is_last_set_off_and_never_bold() -> None:
    reference = plain_scores(0.99, 0.99, 0.99, 0.99)
    table = main_table([*noisy("EW", 0.5, reference=reference), *noisy("UW", 0.6, reference=reference)])
    assert table.rows[-1].head.text == "Dummy baseline"
    assert table.rows[-1].rule
    assert cell(table, "Dummy baseline", 0).text == "99.00"
    assert not cell(table, "Dummy baseline", 0).bold
    assert cell(table, "UW", 0).bold


def test_rows_with_missing_seeds_say_why_and_are_not_bold() -> None:
    records = [run(method, seed, 0.5) for method in ("EW", "UW") for seed in (0, 1, 2)]
    records += [run("CAGrad", 0, 0.9), make_unfinished("diverged", "loss is nan at step 7.", method="CAGrad", seed=1)]
    table = main_table(records)
    assert cell(table, "CAGrad", 0).text == "90.00"
    assert cell(table, "CAGrad", 0).seeds == (0,)
    assert not cell(table, "CAGrad", 0).bold
    assert notes_of(table, "CAGrad") == ("seed 1 diverged (loss is nan at step 7); seed 2 not run",)
    assert notes_of(table, "EW") == ()
    assert "unless a note says otherwise" in table.note


def test_a_row_without_any_finished_run_prints_dashes() -> None:
    records = [run("EW", seed, 0.5) for seed in (0, 1)]
    records += [make_unfinished("failed", "out of memory", method="MGDA", seed=seed) for seed in (0, 1)]
    table = main_table(records)
    assert {c.text for c in table.rows[1].cells} == {"--"}
    assert notes_of(table, "MGDA") == ("seeds 0, 1 failed (out of memory)",)


def test_rows_that_went_on_on_another_platform_say_so() -> None:
    changed = ["from epoch 3 on: threads 2 instead of 1"]
    records = [run("EW", seed, 0.5, resumed=changed if seed else []) for seed in (0, 1, 2)]
    table = main_table([*records, run("UW", 0, 0.5)])
    assert notes_of(table, "EW") == (f"resumed on another platform: seeds 1, 2 {changed[0]}",)
    assert cell(table, "EW", 0).seeds == (0, 1, 2)


def test_rows_with_different_seeds_say_so() -> None:
    table = main_table([run("EW", 0, 0.5), run("UW", 1, 0.6)])
    assert notes_of(table, "EW") == ("seed 1 not run",)
    assert notes_of(table, "UW") == ("seed 0 not run",)
    assert not any(c.bold for row in table.rows for c in row.cells)


def test_a_score_that_is_no_number_leaves_the_cell_empty_rather_than_averaging_the_rest() -> None:
    records = [run("EW", 0, 0.5), make_record("digits", "EW", 1, test=plain_scores(0.5, math.nan, 0.5, 0.5))]
    table = main_table(records)
    assert cell(table, "EW", 0).text == "50.00"
    assert (cell(table, "EW", 1).text, cell(table, "EW", 4).text) == ("--", "--")
    assert cell(table, "EW", 1).notes == ("no finite score recorded for seed 1",)


def test_common_settings_are_in_the_caption_and_those_of_one_row_in_its_label() -> None:
    everywhere = {"train.epochs": 3}
    records = [
        run("EW", 0, 0.5, overrides=everywhere, variant="ew@1"),
        run("CAGrad", 0, 0.5, overrides={**everywhere, "weighting.c": 0.4}, variant="cagrad@2"),
    ]
    table = main_table(records)
    assert [row.head.text for row in table.rows] == ["EW", "CAGrad (weighting.c=0.4)"]
    assert "All rows: train.epochs=3." in table.note
    assert r"CAGrad (weighting.c=0.4) &" in latex(table)


def test_rows_with_the_same_name_have_their_variant_in_the_label() -> None:
    table = main_table([run("EW", 0, 0.5), run("EW", 0, 0.6, variant="ew@9")])
    assert [row.head.text for row in table.rows] == ["EW (ew)", "EW (ew@9)"]


def test_seeds_that_ran_with_different_settings_are_not_averaged() -> None:
    records = [run("EW", seed, 0.5, settings={"train": {"epochs": 10 + seed}}) for seed in (0, 1)]
    table = main_table(records)
    assert cell(table, "EW", 0).text == "--"
    assert notes_of(table, "EW") == ("seeds ran with different settings and are not averaged: train.epochs: 10, 11",)


def test_rows_with_other_shared_settings_or_splits_say_so() -> None:
    usual = {"settings": {"train": {"epochs": 10}, "weighting": {"c": 1}}, "splits": {"digest": "a"}}
    odd = {"settings": {"train": {"epochs": 5}, "weighting": {"c": 2}}, "splits": {"digest": "b"}}
    table = main_table([run("EW", 0, 0.5, **usual), run("UW", 0, 0.5, **usual), run("MGDA", 0, 0.5, **odd)])
    assert notes_of(table, "MGDA") == (
        "data differs from that of the other rows (seed 0)",
        "train.epochs=5, other rows have 10",
    )
    assert notes_of(table, "EW") == ()


def test_settings_that_labels_give_are_not_what_other_rows_should_have() -> None:
    tuned = [run(name, 0, 0.5, settings={"train": {"lr": 0.3}}, overrides={"train.lr": 0.3}) for name in ("UW", "MGDA")]
    table = main_table([*tuned, run("EW", 0, 0.5, settings={"train": {"lr": 0.1}})])
    assert notes_of(table, "EW") == ()


def saw(*seeds: str, per_seed: bool = False) -> dict[int, dict[str, Any]]:
    """Fields of the runs with seeds 0, 1, ... whose data has these fingerprints."""
    settings = {"data": {"split_per_seed": per_seed}}
    return {seed: {"fingerprint": {"test": one}, "settings": settings} for seed, one in enumerate(seeds)}


def table_of(**rows: dict[int, dict[str, Any]]) -> Table:
    return main_table([run(m, seed, 0.5, **fields) for m, row in rows.items() for seed, fields in row.items()])


def test_seeds_that_saw_different_data_are_not_averaged() -> None:
    """The first seeds agree: every run counts, not one per row."""
    table = table_of(EW=saw("a", "a", "b"), UW=saw("a", "a", "a"))
    assert cell(table, "EW", 0).text == "--" != cell(table, "UW", 0).text
    assert notes_of(table, "EW") == (
        "seeds saw different data and are not averaged: seed 2 other than seed 0",
        "data differs from that of the other rows (seed 2)",
    )
    assert notes_of(table, "UW") == ()


def test_rows_that_saw_other_data_say_so() -> None:
    augmented = {seed: {**one, "settings": {"data": {"augment": True}}} for seed, one in saw("b", "b").items()}
    for odd in (saw("b", "b"), augmented):
        table = table_of(EW=saw("a", "a"), UW=odd, MGDA=saw("a", "a"))
        assert "data differs from that of the other rows (seeds 0, 1)" in notes_of(table, "UW")
    table = table_of(EW=saw("a", "a"), UW=saw("b", "b"), MGDA=saw("a", "a"))
    assert notes_of(table, "UW") == ("data differs from that of the other rows (seeds 0, 1)",)
    assert notes_of(table, "EW") == notes_of(table, "MGDA") == ()


def test_partitions_that_vary_with_the_seed_are_compared_seed_by_seed() -> None:
    table = table_of(
        EW=saw("a", "b", per_seed=True), UW=saw("a", "c", per_seed=True), MGDA=saw("a", "b", per_seed=True)
    )
    assert all(cell(table, method, 0).text != "--" for method in ("EW", "UW", "MGDA"))
    assert notes_of(table, "UW") == ("data differs from that of the other rows (seed 1)",)
    assert notes_of(table, "EW") == notes_of(table, "MGDA") == ()


def test_partitions_that_vary_with_the_seed_are_of_the_same_images() -> None:
    def drawn(*wholes: str) -> dict[int, dict[str, Any]]:
        runs = saw("a", "b", "c", per_seed=True)
        return {
            seed: {**runs[seed], "fingerprint": {"test": "abc"[seed], "whole": one}} for seed, one in enumerate(wholes)
        }

    table = table_of(EW=drawn("x", "x", "y"), UW=drawn("x", "x", "x"), MGDA=drawn("x", "x", "x"))
    assert cell(table, "EW", 0).text == "--" != cell(table, "UW", 0).text
    assert notes_of(table, "EW") == (
        "seeds saw different data and are not averaged: seed 2 other than seed 0",
        "data differs from that of the other rows (seed 2)",
    )
    assert notes_of(table, "UW") == notes_of(table, "MGDA") == ()


def test_records_without_fingerprints_are_compared_by_file_names() -> None:
    old = {seed: {"splits": {"digest": digest}} for seed, digest in enumerate("xy")}
    new = {seed: {"splits": {"digest": "x"}, "fingerprint": {"test": "a"}} for seed in (0, 1)}
    table = table_of(EW=new, UW=old)
    assert notes_of(table, "EW") == ()
    assert notes_of(table, "UW") == (
        "seeds saw different data and are not averaged: seed 1 other than seed 0",
        "data differs from that of the other rows (seed 1)",
    )


def test_a_record_without_fingerprint_does_not_hide_that_others_differ() -> None:
    """It agrees with every record that has its split of the files."""
    old, first, other = ({"splits": {"digest": "x"}, **seen} for seen in ({}, *saw("a", "b").values()))
    table = table_of(EW={0: old, 1: first, 2: other})
    assert cell(table, "EW", 0).text == "--"
    assert "seeds saw different data and are not averaged: seed 2 other than seed 1" in notes_of(table, "EW")
    table = table_of(EW={0: old}, UW={0: first}, MGDA={0: first}, PCGrad={0: other})
    assert notes_of(table, "PCGrad") == ("data differs from that of the other rows (seed 0)",)
    assert notes_of(table, "EW") == notes_of(table, "UW") == notes_of(table, "MGDA") == ()


VERSIONS = {"engine": 2, "weighting": 1, "architecture": 1, "problem": 1, "maker": 1}


def test_seeds_of_different_versions_are_not_averaged() -> None:
    for older, found in (
        ({**VERSIONS, "engine": 1}, "engine: 2, 1"),
        ({}, "engine: 2, not kept; problem: 1, not kept"),
    ):
        records = [run("EW", 0, 0.5, versions=VERSIONS), run("EW", 1, 0.6, versions=older)]
        table = main_table(records)
        assert cell(table, "EW", 0).text == "--"
        (note,) = notes_of(table, "EW")
        assert note.startswith(f"seeds ran with different versions and are not averaged: {found}")


def test_rows_of_other_versions_say_so() -> None:
    def notes(*versions: dict[str, int], weightings: Sequence[str] = ("ew", "uw", "mgda")) -> list[tuple[str, ...]]:
        methods = ("EW", "UW", "MGDA")
        made = zip(methods, versions, weightings, strict=False)
        table = main_table([run(m, 0, 0.5, versions=found, weighting=weighting) for m, found, weighting in made])
        return [notes_of(table, method) for method in methods[: len(versions)]]

    older = {**VERSIONS, "engine": 1}
    assert notes(VERSIONS, older, older) == [("engine version 2, other rows 1",), (), ()]
    # Of two rows, the older one is marked, whichever comes first.
    assert notes(older, VERSIONS) == [("engine version 1, other rows 2",), ()]
    assert notes({}, VERSIONS, VERSIONS) == [("made before versions were kept",), (), ()]
    assert notes({}, {}, {"engine": 2, "maker": 1}) == [
        (), (), ("engine version 2, maker version 1: other rows were made before versions were kept",),
    ]  # fmt: skip
    assert notes({}, {}, {}) == [(), (), ()]
    assert notes({**VERSIONS, "problem": 2, "maker": 3}, VERSIONS, VERSIONS)[0] == (
        "problem version 2, other rows 1",
        "maker version 3, other rows 1",
    )


def test_versions_of_methods_are_compared_within_the_same_method_alone() -> None:
    newer = {**VERSIONS, "weighting": 2}
    table = main_table([run("EW", 0, 0.5, versions=VERSIONS), run("UW", 0, 0.5, versions=newer)])
    assert notes_of(table, "EW") == notes_of(table, "UW") == ()
    normal = run("NORMAL", 0, 0.5, versions={**VERSIONS, "weighting": 2, "architecture": 9})
    table = main_table([run("EW", 0, 0.5, versions=VERSIONS), normal])
    assert notes_of(table, "EW") == ("weighting version 1, other rows with this weighting 2",)
    assert notes_of(table, "NORMAL") == ()


def test_records_that_disagree_about_the_tasks_are_refused() -> None:
    with pytest.raises(RecordError, match="digits/uw/seed-0: expected the tasks and metrics of digits/ew/seed-0"):
        comparisons([run("EW", 0, 0.5), make_unfinished("failed", "", method="UW", tasks=DIGITS[:2])])


def test_two_records_of_one_run_are_refused() -> None:
    with pytest.raises(RecordError, match="expected one record, found two"):
        comparisons([run("EW", 0, 0.5), run("EW", 0, 0.6)])


def scaled(method: str, seed: int, factor: float, **fields: object) -> Record:
    return make_record("rooms", method, seed, test=even_scores("rooms", factor), **fields)


def test_delta_compares_each_seed_with_equal_weighting_of_that_seed() -> None:
    records = [scaled("EW", 0, 1.0), scaled("EW", 1, 0.5), scaled("UW", 0, 1.1), scaled("UW", 1, 0.6)]
    table = main_table(records, spread="sd")
    gains = [sum(factor * sign for sign in (1, -1, 0.2)) / 3 for factor in (0.1, 0.2)]  # 3 tasks; normals gain 3-2 of 5
    assert cell(table, "UW", DELTA).mean == pytest.approx(sum(gains) / 2)
    assert cell(table, "UW", DELTA).sd == pytest.approx((gains[1] - gains[0]) / math.sqrt(2))
    assert cell(table, "EW", DELTA).text == "0.00 ± 0.00"


def test_no_delta_without_the_same_seeds_of_equal_weighting() -> None:
    table = main_table([scaled("EW", 0, 1.0), scaled("UW", 0, 1.1), scaled("UW", 1, 1.1)])
    assert cell(table, "UW", DELTA).text == "--"
    assert cell(table, "UW", DELTA).notes == ("no EW run to compare with for seed 1",)
    assert cell(table, "UW", 0).text != "--"


def test_equal_weighting_with_settings_of_its_own_is_no_baseline() -> None:
    tuned = {"overrides": {"train.lr": 0.1}, "variant": "ew@1"}
    table = main_table([scaled("EW", 0, 1.0, **tuned), scaled("UW", 0, 1.1)])
    assert {row.cells[DELTA].text for row in table.rows} == {"--"}
    shared = main_table([scaled("EW", 0, 1.0, **tuned), scaled("UW", 0, 1.1, overrides=tuned["overrides"])])
    assert "--" not in {row.cells[DELTA].text for row in shared.rows}


def test_dense_tables_group_metrics_by_task_with_units_in_their_heads() -> None:
    table = main_table([make_record("rooms")])
    assert [(group.text, group.span) for group in table.groups] == [
        ("Segmentation", 2), ("Depth", 2), ("Normal", 5), ("", 1),
    ]  # fmt: skip
    assert [c.text for c in table.rows[0].cells] == [
        "48.75", "71.83", "0.4179", "0.1734", "25.42", "18.84", "32.43", "57.29", "68.45", "0.00",
    ]  # fmt: skip
    heads = [column.head.text for column in table.columns]
    assert heads[:4] == ["mIoU (%) ↑", "PixAcc (%) ↑", "AbsErr (m) ↓", "RelErr ↓"]
    assert heads[4:7] == ["Mean (°) ↓", "Median (°) ↓", "within 11.25° (%) ↑"]


def test_many_tasks_get_averages_and_the_worst_task_and_a_table_of_their_own() -> None:
    scores = even_scores("faces")
    scores[MANY[4].key]["accuracy"] = 0.5
    records = [make_record("faces", "EW", test=scores), make_record("faces", "UW")]
    (comparison,) = comparisons(records)
    main, *by_task = score_tables(comparison, Options(spread="none"))
    assert [group.text for group in main.groups] == ["Accuracy", "F1", ""]
    assert [column.head.text for column in main.columns][:2] == ["Avg (%) ↑", "Worst (%) ↑"]
    assert cell(main, "EW", 0).text == "89.00"
    assert cell(main, "EW", 1).text == "50.00 (Bald)"
    assert [table.name for table in by_task] == ["tasks-accuracy", "tasks-f1"]
    assert len(by_task[0].rows) == 40
    assert [column.head.text for column in by_task[0].columns] == ["EW", "UW"]


def test_costs_are_relative_to_equal_weighting_of_the_same_seeds() -> None:
    records = [
        run(method, seed, 0.5, step_seconds=Timing(median=median, mean=1, steps=9, warmup=1), solver_fallbacks=seed)
        for method, medians in {"EW": (0.1, 0.2), "UW": (0.2, 0.6)}.items()
        for seed, median in enumerate(medians)
    ]
    (comparison,) = comparisons(records)
    table = cost_table(comparison)
    assert [column.head.text for column in table.columns] == [
        "s/step", "× EW", "Parameters", "Fallbacks", "Epoch", "of",
    ]  # fmt: skip
    assert [c.text for c in table.rows[1].cells] == ["0.4000", "2.50", "27,600", "1", "8–9", "10"]


def test_costs_on_different_devices_say_so() -> None:
    (comparison,) = comparisons(
        [run("EW", 0, 0.5), run("UW", 0, 0.5, environment={"device": "a GPU"}, peak_memory_mib=9.0)]
    )
    table = cost_table(comparison)
    assert notes_of(table, "UW") == ("timed on a GPU",)
    assert [cell(table, row, 2).text for row in ("EW", "UW")] == ["--", "9"]


def test_memory_is_what_runs_add_where_all_say_it_and_else_also_that_of_whole_processes() -> None:
    def table_of(*memories: tuple[float, float | None]) -> Table:
        records = [
            run(method, 0, 0.5, peak_memory_mib=peak, idle_memory_mib=idle)
            for method, (peak, idle) in zip(("EW", "UW"), memories, strict=False)
        ]
        return cost_table(comparisons(records)[0])

    def memory(table: Table) -> dict[str, list[str]]:
        heads = [column.head.text for column in table.columns]
        places = {head: place for place, head in enumerate(heads) if head.endswith("(MiB)")}
        return {head: [row.cells[place].text for row in table.rows] for head, place in places.items()}

    new, mixed, old = table_of((510, 500), (480, 450.5)), table_of((510, 500), (480, None)), table_of((510, None))
    assert memory(new) == {"Memory (MiB)": ["10", "30"]}
    assert memory(mixed) == {"Memory (MiB)": ["10", "--"], "Process (MiB)": ["510", "480"]}
    assert memory(old) == {"Process (MiB)": ["510"]}
    assert "whole process" not in new.note and "Memory: what a run adds" in new.note
    assert "Memory: " not in old.note and "Process: peak of the whole process" in old.note


def test_csv_keeps_full_precision_and_loads_as_one_line_per_cell() -> None:
    records = [run("EW", seed, value) for seed, value in enumerate((0.1, 0.2, 0.4))]
    lines = list(csv.DictReader(io.StringIO(comma_separated(main_table(records), "digits"))))
    assert len(lines) == 6
    assert float(lines[0]["mean"]) == (0.1 + 0.2 + 0.4) / 3
    assert (lines[0]["n"], lines[0]["seeds"], lines[0]["task"], lines[0]["variant"]) == ("3", "0 1 2", "plain", "ew")


def test_files_of_runs_have_a_line_per_run_and_a_line_per_metric() -> None:
    own = {task: Selected(epoch=epoch, rule="its own", score=0.9) for task, epoch in (("plain", 3), ("noisy", 9))}
    selected = Selected(epoch=9, rule="its own", score=0.9)
    records = [
        make_record(seed=1, selected=selected, selected_by_task=own, overrides={"train.lr": 0.1}, peak_memory_mib=7.5),
        make_unfinished("diverged", "loss is nan", seed=2),
    ]
    files = run_files(records)
    runs, scores = (list(csv.DictReader(io.StringIO(files[name]))) for name in ("runs.csv", "run-scores.csv"))
    assert [(run["seed"], run["status"], run["epoch"], run["overrides"]) for run in runs] == [
        ("1", "done", "9", "train.lr=0.1"), ("2", "diverged", "", ""),
    ]  # fmt: skip
    assert runs[0]["peak_memory_mib"] == "7.5" and runs[0]["idle_memory_mib"] == ""
    epochs = {line["task"]: line["epoch"] for line in scores}
    assert epochs == {"plain": "3", "colour": "9", "outline": "9", "noisy": "9"} and len(scores) == 4
    splits = ("validation", "test", "last_test")
    for line in scores:
        kept = [float(line[split]) for split in splits]
        expected = [getattr(records[0], split)[line["task"]]["accuracy"] for split in splits]
        assert kept == expected and {line[key] for key in ("data", "variant", "seed")} == {"digits", "ew", "1"}


def test_a_table_too_wide_for_a_page_is_several() -> None:
    table = main_table(make_study("rooms", ("EW", "UW"), (0, 1, 2)), spread="sd")
    assert split(table, 1e9, estimated_width) == (table,)
    parts = split(table, 300.0, estimated_width)
    assert len(parts) > 2 and [part.label for part in parts][:2] == [table.label, f"{table.label}-2"]
    assert sum((part.columns for part in parts), ()) == table.columns
    for place, row in enumerate(table.rows):
        assert sum((part.rows[place].cells for part in parts), ()) == row.cells
        assert all(part.rows[place].head == row.head for part in parts)
    named = [group for part in parts for group in part.groups if group.text]
    assert named == [group for group in table.groups if group.text]  # which stay whole
    assert all(sum(group.span for group in part.groups) == len(part.columns) for part in parts)
    assert [part.note for part in parts] == [*[""] * (len(parts) - 1), table.note]
    assert all("continued" in part.caption for part in parts[1:])
    few = split(table, 700.0, estimated_width)
    assert 1 < len(few) < len(parts) and all(estimated_width(part) <= 700 for part in few)


def test_markdown_names_the_group_in_each_head() -> None:
    text = markdown(main_table(make_study("rooms", ("EW", "UW"))))
    assert "| Method | Segmentation mIoU (%) ↑ | Segmentation PixAcc (%) ↑ | Depth AbsErr (m) ↓ |" in text
    assert "| *Dummy baseline* |" in text


def test_published_numbers_are_as_printed() -> None:
    for data, columns in (("office31", 4), ("officehome", 5), ("nyuv2", 10), ("celeba", 1)):
        table = published(data, "A data set")[0]
        assert "published (Ye et al., IJCAI 2023), not comparable: other splits, other code" in table.caption
        assert [row.head.text for row in table.rows][0::8] == ["EW", "NORMAL"], data
        assert {len(row.cells) for row in table.rows} == {columns}, data
    assert published("digits", "Digits") == ()
