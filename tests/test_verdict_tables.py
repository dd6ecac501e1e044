"""Verdicts, twins, times to target and the table over problems, against numbers computed otherwise."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_factory import DIGITS, ROOMS, TYPICAL, make_record, make_unfinished, without_drawing
from scipy.stats import binomtest, permutation_test, ttest_1samp, ttest_rel

from bench.records.items import read_items, write_items
from bench.records.record import Record, Scores, Selected
from bench.records.selected_scores import selected_scores
from bench.records.store import CURVE, run_folder, write_csv, write_record
from bench.reporting import overall
from bench.reporting.across import across_problems, times_ratios
from bench.reporting.comparison import Comparison, Variant, comparisons
from bench.reporting.contrasts import contrasts_of
from bench.reporting.item_scores import ItemReader
from bench.reporting.options import Options
from bench.reporting.planned import PlannedRow, PlannedTable, arranged
from bench.reporting.reports import write_reports
from bench.reporting.sections import analysed, section_tables
from bench.reporting.separable import maybe_best
from bench.reporting.series import read_curves
from bench.reporting.tables.problems import problems_table
from bench.reporting.tables.row_columns import row_columns, tuning_remark
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.spread import spread_table
from bench.reporting.tables.table import Cell, Table
from bench.reporting.tables.times import times_table
from bench.reporting.tables.twins import twin_table
from bench.reporting.tables.verdicts import verdict_table
from bench.reporting.times import times_to_target

NOWHERE = Path("nowhere")  # without outcomes per item
TUNED = {"train.lr": 0.01}
FROZEN = {"weighting.source": "uw"}
ROWS = (
    PlannedRow("EW", (("ew", {}),)),
    PlannedRow("EW 50% a_b", (("ew", TUNED),), trials=12),
    PlannedRow("UW", (("uw", TUNED),), trials=12),
    PlannedRow("UW, frozen", (("uw", TUNED),), trials=12, twin_of="UW"),
    PlannedRow("MGDA", (("mgda", {}),)),
)
# Label, method and settings of each row, and how much better it is than EW.
EFFECTS = (("EW", {}, 0.0), ("EW", TUNED, 0.02), ("UW", TUNED, 0.1), ("Frozen", FROZEN, 0.1), ("MGDA", {}, -0.1))


def scores_of(data: str, level: float, draw: random.Random) -> Scores:
    tasks, found = {"digits": DIGITS, "rooms": ROOMS}[data], Scores()
    for task in tasks:
        signs = {m.key: 1 if m.direction == "higher" else -1 for m in task.metrics}
        found[task.key] = {
            key: 0.5 * TYPICAL[key] * (1 + s * (level + draw.gauss(0, 0.01))) for key, s in signs.items()
        }
    return found


def records_of(data: str, seeds: Sequence[int] = range(10), **fields: Any) -> list[Record]:
    """Ten seeds of five rows; the noise of a seed is shared in part."""
    found = []
    for method, overrides, effect in EFFECTS:
        key = method.lower()
        for seed in seeds:
            draw = random.Random(f"{data} {method} {overrides} {seed}")
            level = effect + random.Random(f"{data} {seed}").gauss(0, 0.02)
            reference = scores_of(data, -0.5, random.Random(0))
            names: dict[str, Any] = {"variant": f"{key}@1" if overrides else key, "overrides": overrides}
            names |= {"test": scores_of(data, level, draw), "reference": reference}
            record = make_record(data, method, seed, **{**names, **fields})
            if method == "Frozen":
                record.settings["weighting"] |= {"source": f"{data}/uw@1", "source_seeds": list(seeds)}
            found.append(record)
    return found


def part_of(records: Sequence[Record], rows: Sequence[PlannedRow] = ROWS) -> Comparison:
    (comparison,) = comparisons(records)
    (part,) = arranged(comparison, [PlannedTable("trust", "Trust", tuple(rows))])
    return part


def row(table: Table, label: str) -> Sequence[Cell]:
    return next(one for one in table.rows if one.head.text == label).cells


def accuracies(comparison: Comparison, label: str) -> np.ndarray[Any, Any]:
    """Mean over tasks, by seed."""
    variant = next(v for v in comparison.variants if v.label == label)
    return np.array([np.mean([one["accuracy"] for one in run.test.values()]) for run in variant.scored.values()])


def test_verdicts_agree_with_other_implementations() -> None:
    part = part_of(records_of("digits"))
    contrasts = contrasts_of(NOWHERE, part)
    table = verdict_table(part, contrasts)
    assert [c.text for c in row(table, "EW")][2::2] == ["--"] * 3  # but for its difference from tuned EW
    assert [str(contrasts.rows[v.label].verdict) for v in part.variants] == [
        "", "better than EW", "better than tuned EW", "better than tuned EW", "worse",
    ]  # fmt: skip
    uw, ew = accuracies(part, "UW"), accuracies(part, "EW")
    interval = ttest_rel(uw, ew).confidence_interval(0.95)
    over_ew = row(table, "UW")[2]
    assert over_ew.mean == pytest.approx((uw - ew).mean()) and over_ew.interval == pytest.approx(tuple(interval))
    assert over_ew.text == f"+{100 * (uw - ew).mean():.2f} [+{100 * interval.low:.2f}, +{100 * interval.high:.2f}]"
    flips = permutation_test(
        (uw, ew), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", vectorized=True
    )
    # Four rows are compared with EW, of which three have the least p: Holm's factor is that of the first, 4... 1.
    assert row(table, "UW")[5].mean == pytest.approx(4 * flips.pvalue)
    wins = binomtest(10, 10).proportion_ci(0.95)
    assert row(table, "UW")[4].text == f"1.00 [{wins.low:.2f}, 1.00]"
    assert "over seeds (Student)" in table.note and "With 80 % power, 10 seeds detect" in table.note


def test_rows_that_may_be_the_best_share_the_mark() -> None:
    part = part_of(records_of("digits"))
    table = verdict_table(part, contrasts_of(NOWHERE, part))
    assert [r.head.text for r in table.rows if r.cells[1].bold] == ["UW", "UW, frozen"]


def test_rows_left_out_on_request_change_no_number(tmp_path: Path) -> None:
    part = part_of(records_of("digits"))
    logged = read_curves(tmp_path, part)
    everything = analysed(tmp_path, part, logged, Options())
    some = analysed(tmp_path, part, logged, Options(exclude=("mgda", "EW 50% a_b"), order="score"))
    assert [v.label for v in some.comparison.shown] == ["UW, frozen", "UW", "EW"]
    whole, table = (section_tables(one, Options())[1] for one in (everything, some))
    assert table.name == "verdicts" and [r.head.text for r in table.rows] == ["UW, frozen", "UW", "EW"]
    assert [[c.text for c in row(table, label)] for label in ("UW", "EW")] == [
        [c.text for c in row(whole, label)] for label in ("UW", "EW")
    ]
    assert "Left out on request: EW 50% a_b; MGDA." in table.note and "Left out" not in whole.note
    only = analysed(tmp_path, part, logged, Options(methods=("UW",)))
    assert [v.label for v in only.comparison.shown] == ["UW"] and only.comparison.baseline is not None
    tables = [section_tables(only, Options())[0], score_tables(part, Options())[0]]
    delta_b = [row(table, "UW")[[c.head.text for c in table.columns].index("Δ_b (%) ↑")].mean for table in tables]
    assert delta_b[0] == delta_b[1]


def test_intervals_beside_means_are_those_of_student(tmp_path: Path) -> None:
    part = part_of(records_of("digits"))
    found = row(score_tables(part, Options(spread="ci", decimals=1))[0], "UW")[4]
    low, high = ttest_1samp(accuracies(part, "UW"), 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((low, high))
    assert found.text == f"{100 * accuracies(part, 'UW').mean():.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def test_gains_per_task_are_those_of_delta() -> None:
    part = part_of(records_of("digits"))
    scores, gains = score_tables(part, Options(per_task=True))
    assert gains.name == "gains-ew" and "Relative gain over EW (%)" in gains.caption
    delta_b = [c.head.text for c in scores.columns].index("Δ_b (%) ↑")
    means = [cell.mean for cell in row(gains, "UW")]
    assert np.mean(means) == pytest.approx(row(scores, "UW")[delta_b].mean)


def with_items(folder: Path, records: Sequence[Record], views: int = 1) -> list[Record]:
    """The records with outcomes of 50 items per task that have their accuracies, each item in so many equal views."""
    found = []
    for record in records:
        items = {}
        for task in record.tasks:
            right = round(50 * record.test[task.key]["accuracy"])
            order = np.random.default_rng(record.seed).permutation(50)
            items[task.key] = np.isin(np.arange(50), order[:right]).repeat(views)
            record.test[task.key]["accuracy"] = right / 50
        where = run_folder(folder, record.data, record.variant, record.seed)
        where.mkdir(parents=True)
        digest = write_items(where, items, {task.key: ["accuracy"] for task in record.tasks})
        found.append(record.model_copy(update={"items": digest}))
    return found


def test_intervals_are_over_seeds_and_items_where_outcomes_are_kept(tmp_path: Path) -> None:
    records = with_items(tmp_path, records_of("digits"))
    contrasts = contrasts_of(tmp_path, part_of(records))
    assert "seeds and test items (studentised bootstrap)" in contrasts.method and "Student)" not in contrasts.method
    found = contrasts.rows["UW"].over_ew
    only_seeds = (
        contrasts_of(NOWHERE, part_of([r.model_copy(update={"items": ""}) for r in records])).rows["UW"].over_ew
    )
    assert found is not None and only_seeds is not None and found.value == only_seeds.value
    assert found.low < found.value < found.high and found.low != only_seeds.low
    mixed = [r.model_copy(update={"items": ""}) if r.variant == "uw@1" else r for r in records]
    assert contrasts_of(tmp_path, part_of(mixed)).rows["UW"].over_ew == only_seeds


def test_what_is_missing_is_said() -> None:
    alone = [r for r in records_of("digits", (0, 1)) if r.variant != "ew"]
    part = part_of(alone)
    table = verdict_table(part, contrasts_of(NOWHERE, part))
    assert "There is no row of EW to compare with." in table.note
    assert {c.text for r in table.rows for c in (r.cells[2], r.cells[4], r.cells[5])} == {"--"}
    assert row(table, "UW")[6].text == "too few seeds (2)"
    (comparison,) = comparisons(records_of("digits", (0,)))
    table = verdict_table(comparison, contrasts_of(NOWHERE, comparison))
    assert "No row of tuned EW is known." in table.note and "One seed: no intervals." in table.note
    assert "[" not in row(table, "MGDA")[1].text
    lacking = [r for r in records_of("digits") if (r.variant, r.seed) != ("ew", 3)]
    part = part_of(lacking)
    table = verdict_table(part, contrasts_of(NOWHERE, part))
    notes = next(r for r in table.rows if r.head.text == "UW").head.notes
    assert "no EW run to compare with for seed 3" in notes and row(table, "UW")[0].text == "10"


def test_a_score_that_is_no_number_is_left_out_and_named() -> None:
    records = records_of("digits")
    next(r for r in records if r.variant == "uw@1" and r.seed == 4).test["plain"]["accuracy"] = math.nan
    part = part_of(records)
    table = verdict_table(part, contrasts_of(NOWHERE, part))
    uw = next(r for r in table.rows if r.head.text == "UW")
    assert uw.cells[0].text == "9" and "no finite overall score for seed 4" in uw.head.notes and not uw.cells[1].bold


def test_twins_are_paired_by_seed_and_the_rest_is_listed() -> None:
    part = part_of(records_of("digits"))
    table = twin_table(part, contrasts_of(NOWHERE, part))
    assert table is not None
    differences = accuracies(part, "UW") - accuracies(part, "UW, frozen")
    assert [r.head.text for r in table.rows] == ["UW"]
    assert row(table, "UW")[0].text == "UW, frozen" and row(table, "UW")[2].mean == pytest.approx(differences.mean())
    assert "Rows without a twin: EW, EW 50% a_b, MGDA." in table.note
    failed = {"status": "failed", "test": {}, "validation": {}, "selected": None}
    without = [r.model_copy(update=failed if r.variant == "uw@1" else {}) for r in records_of("digits")]
    part = part_of(without)
    table = twin_table(part, contrasts_of(NOWHERE, part))
    assert table is not None and not table.rows
    assert "Pairs left out: UW, frozen (no finished seed in common with UW)." in table.note
    part = part_of(without, ROWS[:1])
    assert twin_table(part, contrasts_of(NOWHERE, part)) is None


def test_tuning_and_other_budgets_are_marked() -> None:
    records = records_of("digits")
    for record in records:
        if record.method == "mgda":
            record.settings["train"]["epochs"] = 20
            record.overrides["train.epochs"] = 20
    rows = (*ROWS[:-1], PlannedRow("MGDA", (("mgda", {"train.epochs": 20}),)))
    part = part_of(records, rows)
    table = score_tables(part, Options(spread="none"))[0]
    assert [r.cells[-1].text for r in table.rows] == ["0", "12", "12", "12", "0", "--"]  # the last: dummy baseline
    assert table.columns[-1].head.text == "Tuning" and "Tuning: trials" in table.note
    notes = next(r for r in table.rows if r.head.text == "MGDA").head.notes
    assert notes == ("train.epochs=20, other rows have 10",)
    untuned = part_of(records_of("digits"), [PlannedRow("EW", (("ew", {}),)), ROWS[-1]])
    assert tuning_remark(untuned) == "No row was tuned."
    (comparison,) = comparisons(records)
    assert tuning_remark(comparison) == "" and all(c.column.head.text != "Tuning" for c in row_columns(comparison))


def test_rows_without_selection_are_marked() -> None:
    rule = "none: no validation set, the mean of the last 10 epochs on test is reported"
    records = [make_record("rooms", "EW", 0)]
    selected = Selected(epoch=10, rule=rule, score=0.9)
    records.append(make_record("rooms", "UW", 0, validation={}, selected=selected))
    (comparison,) = comparisons(records)
    notes = [v.notes for v in comparison.variants]
    assert notes == [(), ("not selected: no validation set, the mean of the last 10 epochs on test is reported",)]


def test_gains_over_single_task_networks_are_over_their_tasks() -> None:
    first = [DIGITS[0], DIGITS[1]]
    single = [_single(seed, first) for seed in (0, 1)]
    rows = [make_record("digits", "EW", seed, test={t.key: {"accuracy": 0.6} for t in DIGITS}) for seed in (0, 1)]
    whole = comparisons([*rows, *single])[0]
    table = score_tables(whole, Options(spread="none"))[0]
    assert "Δ_b, Δ_m: relative gain over EW and over single-task networks (on Plain, Colour)" in table.note
    place = [c.head.text for c in table.columns].index("Δ_m (%) ↑")
    assert table.rows[0].cells[place].mean == pytest.approx(np.mean([0.6 / 0.5 - 1, 0.6 / 0.6 - 1]))
    (alone,) = comparisons(rows)
    assert "no Δ_m, since there are no single-task runs" in score_tables(alone, Options(spread="none"))[0].note


def _single(seed: int, tasks: Sequence[Any]) -> Record:
    keys = [task.key for task in tasks]
    scores = {key: {"accuracy": 0.5 + 0.1 * seed} for key in keys}
    made = make_record("digits", "STL", seed, variant="stl@1", overrides={"data.tasks": keys})
    names = {"tasks": list(tasks), "test": scores, "validation": scores, "last_test": scores}
    settings = {**made.settings, "data": {**made.settings["data"], "tasks": keys}}
    return made.model_copy(update={**names, "settings": settings})


def test_mean_ranks_of_metrics() -> None:
    """By hand: on each of 4 tasks, UW is first; EW and MGDA share the second place on one task of four."""
    levels = {"EW": (0.5, 0.5, 0.5, 0.5), "UW": (0.9, 0.9, 0.9, 0.9), "MGDA": (0.5, 0.4, 0.4, 0.4)}
    records = [
        make_record("digits", name, test={t.key: {"accuracy": v} for t, v in zip(DIGITS, values, strict=True)})
        for name, values in levels.items()
    ]
    (comparison,) = comparisons(records)
    (rank,) = row_columns(comparison)
    assert {key: cell.mean for key, cell in rank.cells.items()} == {
        "EW": (2.5 + 2 + 2 + 2) / 4, "UW": 1.0, "MGDA": (2.5 + 3 + 3 + 3) / 4,
    }  # fmt: skip


def curves(folder: Path, record: Record, scores: Sequence[float]) -> None:
    where = run_folder(folder, record.data, record.variant, record.seed)
    write_record(where, record)
    weights, scores = [f"weight/{task.key}" for task in record.tasks], list(scores)
    for epoch, score in selected_scores(record).values():
        scores[epoch - 1] = score  # all columns that the curve has
    rows = [(n + 1, 10 * (n + 1), 2.0 * (n + 1), *(1.0 for _ in weights), score) for n, score in enumerate(scores)]
    write_csv(where / CURVE, ("epoch", "step", "seconds", *weights, "score"), rows)


def timed(folder: Path) -> Comparison:
    """EW ends with 0.7 and 0.8; UW gets there after 20 and 10 steps, MGDA once of two times, CAGrad diverges."""
    paths: Mapping[tuple[str, int], Sequence[float]] = {
        ("EW", 0): (0.5, 0.6, 0.7, 0.65), ("EW", 1): (0.5, math.nan, 0.8, 0.8), ("UW", 0): (0.6, 0.7, 0.1, 0.1),
        ("UW", 1): (0.9, 0.9, 0.9, 0.9), ("MGDA", 0): (0.1, 0.2, 0.3, 0.3), ("MGDA", 1): (0.1, 0.8, 0.3, 0.3),
    }  # fmt: skip
    records = []
    for (method, seed), scores in paths.items():
        selected = Selected(epoch=3, rule="highest", score=scores[2])
        records.append(make_record("digits", method, seed, selected=selected, epochs=4))
        curves(folder, records[-1], scores)
    records.append(make_unfinished("diverged", "loss is nan", method="CAGrad", seed=0))
    (comparison,) = comparisons(records)
    return comparison


def test_times_to_target(tmp_path: Path) -> None:
    comparison = timed(tmp_path)
    times = times_to_target(comparison, read_curves(tmp_path, comparison))
    assert times is not None and times.targets == {0: 0.7, 1: pytest.approx(0.8)}
    table = times_table(comparison, times)
    texts = {r.head.text: [c.text for c in r.cells] for r in table.rows}
    assert texts["EW"] == ["2 of 2", "30", "1.00", "6.0"]
    assert texts["UW"] == ["2 of 2", "15", "0.50", "3.0"]
    assert texts["MGDA"] == ["1 of 2", "never", "never", "never"]
    assert texts["CAGrad"] == ["0 of 1", "--", "--", "--"]
    assert "No row of tuned EW is known." in table.note
    (run_folder(tmp_path, "digits", "uw", 1) / CURVE).unlink()
    again = times_to_target(comparison, read_curves(tmp_path, comparison))
    assert again is not None
    cells = row(times_table(comparison, again), "UW")
    assert [c.text for c in cells] == ["1 of 1", "--", "--", "--"]
    assert cells[0].notes == ("no learning curve for seed 1",)


def test_the_table_over_problems_leaves_out_controls_and_incomplete_rows(tmp_path: Path) -> None:
    records = [*records_of("digits", epochs=3), *records_of("rooms", epochs=3)]
    control = [r.model_copy(update={"data": "flow", "control": True}) for r in records_of("digits", epochs=3)]
    lacking = [r for r in [*records, *control] if (r.data, r.variant, r.seed) != ("rooms", "mgda", 2)]
    for record in lacking:
        curves(tmp_path, record, (0.1, 0.9, 0.95))
    tables = [PlannedTable("trust", "Trust", ROWS)]
    parts = [part for one in comparisons(lacking) for part in arranged(one, tables)]
    (across,) = across_problems([analysed(tmp_path, part, read_curves(tmp_path, part), Options()) for part in parts])
    table = problems_table(across)
    assert [(group.text, group.span) for group in table.groups] == [("", 1), ("Digits", 2), ("Rooms", 2)]
    assert [c.head.text for c in table.columns] == ["Rank ↓", "Score (%) ↑", "Verdict", "Log gain ↑", "Verdict"]
    assert "Left out as controls, whose answer is known: Digits." in table.note  # the label of the copied records
    assert row(table, "MGDA")[0].notes == ("not ranked: a seed is missing on Rooms",)
    assert row(table, "EW")[0].mean == 4 and row(table, "EW")[2].text == "--"
    assert row(table, "EW")[1].mean == pytest.approx(accuracies(parts[0], "EW").mean())
    assert row(table, "UW")[2].text == "better than tuned EW" and row(table, "UW")[1].bold
    ratios = times_ratios(across)
    assert ratios["UW"] == [1.0, 1.0] and "MGDA" not in ratios
    with without_drawing():
        files = write_reports(tmp_path, lacking, tmp_path / "out", tables_of=lambda data: tables)
    names = {str(path.relative_to(tmp_path / "out")) for path in files}
    assert {"problems-trust.md", "profile-trust.png", "digits/trust/twins.tex", "digits/trust/differences.png"} <= names
    index = files[0].read_text(encoding="utf-8")
    assert index.index("## Over all problems") < index.index("## What ran")
    assert "](problems-trust.tex)" in index and "](profile-trust.pdf)" in index


def test_a_variant_says_whose_twin_it_is() -> None:
    found: dict[str, Variant] = {v.label: v for v in part_of(records_of("digits")).variants}
    assert found["UW, frozen"].twin_of == "UW" and found["UW"].trials == 12 and found["EW"].trials == 0


def test_images_of_dense_tasks_add_up_to_the_score_and_its_derivative(tmp_path: Path) -> None:
    """The interval is that of a bootstrap of the logarithms themselves, for small changes."""
    random_numbers = np.random.default_rng(0)
    records = []
    for record in [r for r in records_of("rooms", range(6)) if r.variant in ("ew", "uw@1")]:
        items = {}
        for task in record.tasks:
            values = random_numbers.lognormal(0, 0.1, (200, len(task.metrics)))
            values[0, 0] = math.nan
            items[task.key] = values.astype(np.float32)
        where = run_folder(tmp_path, "rooms", record.variant, record.seed)
        where.mkdir(parents=True)
        digest = write_items(where, items, {task.key: [m.key for m in task.metrics] for task in record.tasks})
        records.append(record.model_copy(update={"items": digest}))
    (comparison,) = comparisons(records)
    variant = comparison.variants[0]
    reader = ItemReader(tmp_path, comparison)
    (block,) = reader.blocks(variant, 0)
    assert block.shape == (200, 3) and block.mean() == pytest.approx(overall.test_score(variant.scored[0]))
    # Task 1 has two metrics, both lower: without image 5, the mean of their logarithms changes by about its share.
    values = read_items(run_folder(tmp_path, "rooms", "ew", 0), variant.scored[0])["depth"].astype(np.float64)
    whole, without = (-np.log(np.nanmean(v, axis=0)).mean() for v in (values, np.delete(values, 5, axis=0)))
    share = (block[5, 1] - block[:, 1].mean()) / 200
    assert whole - without == pytest.approx(share, rel=0.02)
    assert "seeds and test items" in contrasts_of(tmp_path, comparison).method


def test_test_sampling_noise_is_that_of_a_share_of_right_answers(tmp_path: Path) -> None:
    """With items of their own, the variance of a mean of n right or wrong answers is p (1 - p) / (n - 1)."""
    records = with_items(tmp_path, records_of("digits"))
    for record in records:
        record.settings["data"]["split_per_seed"] = True
    part = part_of(records)
    table = spread_table(tmp_path, part)
    assert table is not None and "drawn for each seed" in table.note
    shares = np.array([[run.test[t.key]["accuracy"] for t in DIGITS] for run in part.variants[0].scored.values()])
    expected = math.sqrt((shares * (1 - shares) / 49).sum() / 16 / 100)  # 4 tasks, 10 seeds
    cells = row(table, "EW")
    assert cells[1].mean == pytest.approx(expected)
    assert cells[0].mean == pytest.approx(shares.mean(axis=1).std(ddof=1) / math.sqrt(10))
    assert spread_table(NOWHERE, part_of(records_of("digits"))) is None
    some = [r.model_copy(update={"items": ""}) if r.variant == "uw@1" else r for r in records]
    table = spread_table(tmp_path, part_of(some))
    assert table is not None and row(table, "UW")[0].notes == (
        "no outcomes per test item, or no finite score, for every seed",
    )


def test_images_of_an_item_are_drawn_together(tmp_path: Path) -> None:
    """What is right on one image of an item is right on the others, so that they are one draw, for all tasks."""
    records = with_items(tmp_path, records_of("digits"), views=2)
    for record in records:
        record.settings["data"]["split_per_seed"] = True
    part = part_of([r.model_copy(update={"splits": {**r.splits, "views_per_item": 2}}) for r in records])
    (block,) = ItemReader(tmp_path, part).blocks(part.variants[0], 0)
    assert block.shape == (50, 2 * len(DIGITS)) and (block[:, ::2] == block[:, 1::2]).all()
    table = spread_table(tmp_path, part)
    assert table is not None
    runs = part.variants[0].scored.values()
    right = [[round(50 * run.test[t.key]["accuracy"]) for t in DIGITS] for run in runs]
    variances = [(np.arange(50)[:, None] < of_run).mean(axis=1).var(ddof=1) / 50 for of_run in right]
    assert row(table, "EW")[1].mean == pytest.approx(math.sqrt(sum(variances)) / 10)


def test_tuned_ew_may_have_the_settings_of_ew() -> None:
    """The default settings are the first trial, which may be the best."""
    rows = (ROWS[0], PlannedRow("EW, tuned", (("ew", {}),), trials=12), *ROWS[2:])
    for shown, reference in ((rows, 1), (rows[1:], 0)):
        part = part_of(records_of("digits"), shown)
        contrasts = contrasts_of(NOWHERE, part)
        table = verdict_table(part, contrasts)
        assert row(table, "UW")[6].text == "better than tuned EW" and row(table, "MGDA")[6].text == "worse"
        assert row(table, "UW")[2].mean == row(table, "UW")[3].mean
        assert row(table, "EW, tuned")[2].mean == 0 and table.rows[reference].cells[3].text == "--"
        scores = score_tables(part, Options(spread="none"))[0]
        assert row(scores, "EW, tuned")[-1].text == "12"
    assert row(score_tables(part_of(records_of("digits"), rows), Options(spread="none"))[0], "EW")[-1].text == "0"


def test_a_row_that_diverges_once_is_not_called_better() -> None:
    """UW is better by far on nine seeds of ten; a finished run without a finite score is no better than a lost one."""
    finished = records_of("digits")
    place = next(i for i, r in enumerate(finished) if r.variant == "uw@1" and r.seed == 4)
    diverged = [*finished]
    diverged[place] = make_unfinished(
        "diverged", "loss is nan", method="UW", seed=4, variant="uw@1", overrides=TUNED, kind="multi-input"
    )
    silent = [r.model_copy(deep=True) for r in finished]
    silent[place].test["plain"]["accuracy"] = math.nan
    for records in (diverged, silent):
        part = part_of(records)
        table = verdict_table(part, contrasts_of(NOWHERE, part))
        cells = row(table, "UW")
        assert cells[6].text == "runs lost (1)" and cells[5].text == "--" and cells[4].mean == 0.9
        assert row(table, "MGDA")[6].text == "worse"
        twins = twin_table(part, contrasts_of(NOWHERE, part))
        assert twins is not None and row(twins, "UW")[3].text == "--"
        assert row(table, "MGDA")[5].mean == pytest.approx(3 * 2 / 2**10)  # Holm over the other three rows
    failed = [*finished]
    failed[place] = diverged[place].model_copy(update={"status": "failed"})
    part = part_of(failed)
    assert row(verdict_table(part, contrasts_of(NOWHERE, part)), "UW")[6].text == "better than tuned EW"


def test_protocols_are_never_compared(tmp_path: Path) -> None:
    held_out = records_of("rooms")
    published = [r.model_copy(deep=True) for r in records_of("rooms")]
    for r in published:
        r.settings.setdefault("data", {})["protocol"] = "published"
        r.overrides["data.protocol"] = "published"
        r.test["depth"]["abs"] *= 0.5
    published = [r.model_copy(update={"variant": f"{r.variant}-p", "validation": {}}) for r in published]
    single = make_record("rooms", "STL", 0, variant="stl")
    records = [*published, *held_out, single]
    first, second = comparisons(records)
    assert (first.folder, first.label) == ("rooms", "Rooms")
    assert (second.folder, second.label) == ("rooms/protocol-published", "Rooms, protocol published")
    assert second.baseline is not None and second.baseline.key == "ew-p"
    assert first.single_task and not second.single_task
    alone = verdict_table(first, contrasts_of(NOWHERE, first))
    (before,) = comparisons([*held_out, single])
    assert alone == verdict_table(before, contrasts_of(NOWHERE, before))
    (across,) = [a.problem for a in (second,)]
    assert across == "Rooms (published)"
    # A study's row without the protocol's runs is named, as is one whose settings are contradicted.
    rows = (
        PlannedRow("EW", (("ew", {"data.protocol": "published"}),)),
        PlannedRow("UW", (("uw", TUNED | {"data.protocol": "heldout"}),)),
    )
    (part,) = arranged(second, [PlannedTable("t", "T", rows)], records)
    assert [v.label for v in part.variants] == ["EW"] and part.absent == ("UW",) and not part.single_task
    assert "Rows without runs here: UW." in verdict_table(part, contrasts_of(NOWHERE, part)).note
    assert "Rows without runs here: UW." in score_tables(part, Options(spread="none"))[0].note
    with without_drawing():
        files = write_reports(tmp_path, records, tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in files}
    assert {"rooms/scores.md", "rooms/protocol-published/scores.md"} <= names


def test_the_settings_that_a_row_plans_are_not_taken_from_other_runs() -> None:
    """If all runs have one learning rate, a row that plans another one has no runs."""
    records = [r for r in records_of("digits") if r.variant == "uw@1"]
    (comparison,) = comparisons(records)
    other = PlannedRow("UW, other rate", (("uw", {"train.lr": 0.02}),))
    assert arranged(comparison, [PlannedTable("t", "T", (other,))]) == ()
    (part,) = arranged(comparison, [PlannedTable("t", "T", (other, ROWS[2]))])
    assert [v.label for v in part.variants] == ["UW"] and part.absent == ("UW, other rate",)


def test_the_spread_of_a_run_without_a_finite_score_is_left_out(tmp_path: Path) -> None:
    records = [r for r in records_of("rooms", (0, 1)) if r.variant == "ew"]
    records[0].test["depth"]["abs"] = math.nan
    kept = []
    for record in records:
        items = {t.key: np.ones((20, len(t.metrics)), dtype=np.float32) for t in record.tasks}
        where = run_folder(tmp_path, "rooms", record.variant, record.seed)
        where.mkdir(parents=True)
        digest = write_items(where, items, {t.key: [m.key for m in t.metrics] for t in record.tasks})
        kept.append(record.model_copy(update={"items": digest}))
    (comparison,) = comparisons(kept)
    assert spread_table(tmp_path, comparison) is None


def test_no_row_has_a_mark_that_it_could_not_lose() -> None:
    """One-sided, the least p is 2^-n, and Bonferroni takes it times the number of other rows."""
    for rows, fewest in ((2, 5), (3, 6), (10, 8), (14, 9)):
        assert 2.0**-fewest * (rows - 1) <= 0.05 < 2.0 ** (1 - fewest) * (rows - 1)
        levels = {str(row): {seed: 100.0 * row + seed for seed in range(fewest)} for row in range(rows)}
        assert maybe_best(levels, range(fewest)) == {str(rows - 1)}
        assert not maybe_best(levels, range(fewest - 1))
    part = part_of(records_of("digits", range(6)))
    table = verdict_table(part, contrasts_of(NOWHERE, part))
    assert "Nothing is bold: 6 seeds (fewer than 7)" in table.note and not any(r.cells[1].bold for r in table.rows)
