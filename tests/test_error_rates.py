"""Simulated studies: what is drawn, what is counted, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from bench import error_rates
from bench.analyses.error_rates.pools import Pool, pools
from bench.analyses.error_rates.simulation import Design, Scenario, simulate
from bench.records.store import RecordError, run_folder, write_record
from bench.records.trials import TRIALS, TUNING, TrialRun, write_trials
from bench.reporting.comparison import comparisons
from bench.reporting.luck import tuning_luck
from bench.reporting.overall import test_score as overall
from tests.record_factory import make_study

METHODS = ("EW", "UW", "MGDA", "NORMAL")


def _normal_pool(effects: float, validation: float = 0.01) -> Pool:
    generator = np.random.default_rng(0)
    return Pool(
        "digits", "Digits", "accuracy", ("a", "b"), tuple(range(500)), (),
        generator.normal(0, 0.03, 500), generator.normal(0, 0.01, (2, 500)), generator.normal(0, validation, (2, 500)),
        generator.normal(0, 1, 500) * effects, "a test", 0.001, 0.002, 1,
    )  # fmt: skip


def _results(folder: Path) -> Path:
    for record in make_study("digits", METHODS, range(4)):
        write_record(run_folder(folder, record.data, record.variant, record.seed), record)
    return folder


def test_a_pool_is_what_remains_of_the_records(tmp_path: Path) -> None:
    records = make_study("digits", METHODS, range(4))
    (pool,) = pools(_results(tmp_path))
    scores = np.array([[overall(r) for r in records if r.labels.method == m] for m in METHODS])
    # The residual variance of an analysis of variance with two factors.
    fitted = scores.mean(axis=1, keepdims=True) + scores.mean(axis=0) - scores.mean()
    assert pool.paired_sd**2 == pytest.approx(2 * ((scores - fitted) ** 2).sum() / 9)
    assert pool.test.sum(axis=0) == pytest.approx(np.zeros(4))
    assert pool.seeds == (0, 1, 2, 3) and len(pool.rows) == 4


def test_effects_of_settings_are_those_of_the_trials(tmp_path: Path) -> None:
    scores = [0.80, 0.85, 0.70, 0.60]
    runs = [
        TrialRun("digits", "EW", "ew", f"t{n}", n, 100, "done", "accuracy", score, 1, 1, 1, 1.0, 1)
        for n, score in enumerate(scores)
    ]
    failed = replace(runs[0], trial=4, status="diverged")
    write_trials(_results(tmp_path) / TUNING / TRIALS, [*runs, failed])
    (pool,) = pools(tmp_path)
    assert pool.effects_from == "3 trials"
    order = np.argsort(pool.effects)
    assert order.tolist() == [2, 1, 0]
    assert np.median(pool.effects) == pytest.approx(-0.1)


def test_equal_rows_are_seldom_called_better() -> None:
    design = Design(methods=5, luck=False)
    tally = simulate(_normal_pool(0.0), design, Scenario(settings_matter=False), 300, 0)
    assert tally.false_either + tally.worse > 0
    assert tally.false_either <= binom.ppf(0.999, 300, 0.05)
    assert tally.best_lost <= binom.ppf(0.999, 300, 0.05)
    assert tally.gained == 0


def test_luck_of_tuning_makes_false_verdicts_unless_it_is_counted() -> None:
    """The settings are what they are, so the verdict on them is right; the one on their methods is not."""
    pool, scenario = _normal_pool(0.02), Scenario(settings_matter=True)
    settings = simulate(pool, Design(methods=5, luck=False), scenario, 300, 0)
    methods = simulate(pool, Design(methods=5), scenario, 300, 0)
    assert settings.false_either <= binom.ppf(0.999, 300, 0.05) < settings.lucky
    assert methods.lucky <= binom.ppf(0.999, 300, 0.05)
    assert settings.gained > 0


def test_a_large_difference_is_found() -> None:
    tally = simulate(_normal_pool(0.0), Design(methods=5), Scenario(False, difference=0.06), 50, 0)
    assert tally.found == tally.found_tuned == 50 and tally.best_lost == 0 and tally.marked == 50


def test_the_command_repeats_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, outs = _results(tmp_path / "results"), [tmp_path / "a", tmp_path / "b"]
    for out in outs:
        assert error_rates.main(["--results", str(results), "--out", str(out), "--simulations", "20"]) == 0
    names = sorted(path.name for path in outs[0].iterdir())
    assert names == ["error_rates.csv", "error_rates.json", "error_rates.md", "error_rates.tex"]
    assert all((outs[0] / name).read_bytes() == (outs[1] / name).read_bytes() for name in names)
    content = json.loads((outs[0] / "error_rates.json").read_text())
    assert content["seed"] == 0 and content["problems"]["digits"]["tallies"]["equal"]["simulations"] == 20
    assert "20 simulated studies" in capsys.readouterr().out


def test_controls_are_left_out(tmp_path: Path) -> None:
    results = _results(tmp_path)
    for record in make_study("digits"):
        control = record.model_copy(update={"data": "flowtimes", "control": True})
        write_record(run_folder(results, "flowtimes", record.variant, record.seed), control)
    assert [pool.data for pool in pools(results)] == ["digits"]


def test_no_records_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecordError):
        pools(tmp_path)
    assert error_rates.main(["--results", str(tmp_path)]) == 2
    assert "expected records of at least 2 rows" in capsys.readouterr().err


def test_reports_count_the_luck_of_the_table_of_trials(tmp_path: Path) -> None:
    (part,) = comparisons(make_study("digits", METHODS, range(4)))
    assert tuning_luck(tmp_path, part, part.variants) is None
    runs = [
        TrialRun("digits", row, "ew", f"t{n}", n, 100, "done", "accuracy", score, 1, 1, 1, 1.0, 1)
        for row in ("EW", "UW")
        for n, score in enumerate((0.5, 0.6, 0.7, 0.4))
    ]
    write_trials(tmp_path / TUNING / TRIALS, runs)
    rows = [replace(variant, trials=4 if variant.label in ("EW", "UW") else None) for variant in part.variants]
    found = tuning_luck(tmp_path, part, rows)
    # Two draws from 0.5 (in place of 0.4), 0.6 and 0.7: the best has chances 1/9, 3/9 and 5/9.
    best = np.repeat([0.5, 0.6, 0.7], [1, 3, 5])
    assert found == pytest.approx([best.std() if variant.trials else 0.0 for variant in rows])
