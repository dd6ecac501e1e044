"""Tuning: equal points for all methods, trials as runs, the best of them, and the study of tuned settings."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import yaml
from record_factory import make_record, make_unfinished, without_drawing
from scipy.stats import kstest, qmc

from bench import ROOT, report, run, tune
from bench.records.all_records import read_records
from bench.records.record import Selected
from bench.records.store import RECORD, RecordError, read_record, run_folder, write_record
from bench.records.trials import TRIALS, TUNING, TrialRun, read_trials, trial_score, write_trials
from bench.reporting.render import comma_separated
from bench.reporting.replay import best_of
from bench.reporting.reports import write_reports
from bench.reporting.tables.tuning import tuning_table
from bench.spec.request import PlanError
from bench.spec.resolve import resolve
from bench.spec.run_specs import specs_of
from bench.spec.study import Study, StudyError, StudyRow, StudyTable, load_study
from bench.tuning.sampler import SEED, propose, quasi_random
from bench.tuning.space import DIMENSIONS, WEIGHT_DECAYS, space_of
from bench.tuning.studies import targets, tuned_study, with_known_data, with_settings, with_trials, write_study
from bench.tuning.trials import Outcome, Search, outcome, trial_runs
from datasets import DATASETS
from methods import ARCHITECTURES, METHODS, WEIGHTINGS
from methods.contract import MOST_KNOBS, Knob

LR = DATASETS["digits"].recipe.lr
QMC = Search("qmc", 4, (1000,))


def test_knobs_are_few_and_all_their_values_are_valid() -> None:
    infos = [("weighting", name, info) for name, info in WEIGHTINGS.items()]
    infos += [("architecture", name, info) for name, info in ARCHITECTURES.items()]  # type: ignore[misc]
    for part, name, info in infos:
        assert len(info.knobs) <= MOST_KNOBS, name
        assert len({knob.setting for knob in info.knobs}) == len(info.knobs), name
        for knob in info.knobs:
            default = resolve("digits", **{part: name}).settings.as_dict()
            section, _, key = knob.setting.partition(".")
            assert knob.simplex or default[section][key] in knob.choices or _is_between(knob, default[section][key])
            ends: tuple[Any, ...] = knob.choices or (knob.low, knob.high)
            for value in [[0.1, 1.9, 1.0, 1.0]] if knob.simplex else ends:
                spec = resolve("digits", **{part: name}, assignments={knob.setting: value})
                assert spec.settings.as_dict()[section][key] == value, (name, knob.setting)


def _is_between(knob: Knob, value: Any) -> bool:
    return isinstance(value, float) and knob.low <= value <= knob.high


def test_the_documented_knobs_are_those_of_the_registries() -> None:
    text = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")
    for info in (*WEIGHTINGS.values(), *ARCHITECTURES.values()):
        lines = [line for line in text.splitlines() if line.startswith(f"| {info.label} |")]
        assert len(lines) == bool(info.knobs) and (info.knobs or info.label in text), info.label
        for knob in info.knobs:
            values = knob.choices or ((f"{knob.low:g}", f"{knob.high:g}") if not knob.simplex else ("simplex",))
            assert f"`{knob.setting}`" in lines[0] and all(str(value) in lines[0] for value in values), info.label


@pytest.mark.parametrize("wrong", [{}, {"low": 1.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "log": True}])
def test_knobs_without_a_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"arch\.x: expected"):
        Knob("arch.x", **wrong)


def test_all_methods_get_the_same_points() -> None:
    """Also those with more knobs, or with one number per task."""
    tried = {}
    for method in METHODS:
        space = space_of(StudyRow(method=method), "digits")
        points = propose(space, "qmc", 6, 4, [])
        settings = [space.settings(point) for point in points]
        tried[method] = [(one["train.lr"], one["train.weight_decay"]) for one in settings]
    assert len({tuple(points) for points in tried.values()}) == 1
    recipe = DATASETS["digits"].recipe
    for lr, decay in tried["ew"]:
        assert 0.2 <= lr / recipe.lr <= 5 and WEIGHT_DECAYS[0] <= decay <= WEIGHT_DECAYS[1]


def test_the_points_are_those_of_scipy_and_more_trials_only_add_some() -> None:
    expected = qmc.Sobol(DIMENSIONS, scramble=True, seed=SEED).random(16)
    points = quasi_random(4, 15)
    assert numpy.allclose([point.cube for point in points], expected[:15])
    cube = numpy.array([point.cube for point in points])
    assert qmc.discrepancy(cube) < 0.6 * numpy.median(
        [qmc.discrepancy(numpy.random.default_rng(seed).random(cube.shape)) for seed in range(20)]
    )
    assert quasi_random(4, 7) == points[:7]
    assert [point.cube for point in quasi_random(40, 15)] == [point.cube for point in points]


def test_weights_are_uniform_on_the_simplex() -> None:
    row = StudyRow(method="fixed")
    space = space_of(row, "faces")
    weights = space.settings(quasi_random(space.n_tasks, 1)[0])["weighting.weights"]
    assert len(weights) == 40 and min(weights) > 0 and sum(weights) == pytest.approx(40, rel=1e-3)
    space = space_of(row, "office31")  # m = 3: one weight's share of the sum has the distribution Beta(1, 2)
    shares = [space.settings(point)["weighting.weights"][0] / 3 for point in quasi_random(3, 256)]
    assert kstest(shares, "beta", args=(1, 2)).pvalue > 0.05


def test_settings_of_a_row_are_held() -> None:
    space = space_of(StudyRow(method="normal", set={"arch.xi": 0.1, "train.lr": 0.01}), "digits")
    assert {knob.setting for _, knob in space.knobs} == {"train.weight_decay", "arch.eta_ratio", "arch.step_size"}


def test_the_default_point_stands_for_the_defaults() -> None:
    space = space_of(StudyRow(method="normal"), "rooms")
    found = space.settings(space.default)
    arch = resolve("rooms", "normal").settings.as_dict()["arch"]
    assert found["train.lr"] == pytest.approx(DATASETS["rooms"].recipe.lr)
    assert {key: pytest.approx(arch[key], rel=1e-3) for key in ("eta_ratio", "step_size", "xi")} == {
        key: found[f"arch.{key}"] for key in ("eta_ratio", "step_size", "xi")
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (StudyRow(label="r", method="ew", set={"data.protocol": "published"}), "validation set to select on"),
        (StudyRow(label="r", method="all"), "expected one run to tune"),
        (StudyRow(label="r", method="normal", permute={"arch.initial_positions": [1.0, 2.0, 3.0]}), "one run to tune"),
    ],
)
def test_rows_that_cannot_be_tuned_are_refused(row: StudyRow, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        space_of(row, "nyuv2")


def planted(settings: dict[str, Any], lr: float) -> float:
    """Highest at this learning rate, whatever else is set."""
    return 0.8 - 0.1 * math.log(settings.get("train.lr", lr * 1.9) / lr) ** 2


def write_planted(results: Path, found: Outcome, bad: tuple[int, ...] = ()) -> None:
    """Records of all trials that are determined: of some numbers diverged, of others with a planted score."""
    for trial in found.known:
        spec = trial.spec(1000)
        names = {"variant": spec.variant, "seed": 1000, "data": spec.data, "settings": spec.settings.as_dict()}
        score = planted(trial.settings, 2 * LR)
        record = make_record(**names, selected=Selected(epoch=1, rule="best", score=score))  # type: ignore[arg-type]
        if trial.number in bad:
            record = make_unfinished("diverged", "loss inf", **names)
        write_record(run_folder(results, spec.data, spec.variant, 1000), record)


def one_row(method: str, trials: int) -> Study:
    row = StudyRow(label="tuned", method=method, trials=trials)
    other = StudyRow(label="EW", method="ew", set={"train.weight_decay": 1e-3})
    return Study(title="T", tables=[StudyTable(name="t", title="T", rows=[other, row])], data=["digits"])


def test_a_planted_optimum_is_found(tmp_path: Path) -> None:
    (target,) = targets(study := one_row("ew", 12))
    write_planted(tmp_path, outcome(target, QMC, tmp_path), bad=(3,))
    found = outcome(target, QMC, tmp_path)
    lrs = [trial.settings.get("train.lr", LR) for trial in found.known]
    usable = [number for number in range(12) if number not in (0, 3)]
    assert found.complete and found.best.number == min(usable, key=lambda n: abs(math.log(lrs[n] / (2 * LR))))
    assert found.scores[3] == -math.inf and [run.trial for run in found.unfinished] == [3]
    tuned = tuned_study(study, [found], (1000,))
    assert [row.label for row in tuned.rows] == ["EW", "tuned"]
    assert tuned.rows[0] == study.rows[0]
    assert tuned.rows[1].set == found.best.settings and tuned.rows[1].trials == 12
    assert read_trials(write_trials(tmp_path / TRIALS, [run for runs in found.runs for run in runs]))[0].trial == 0


def test_data_sets_with_missing_trials_are_left_out_of_the_tuned_study(tmp_path: Path) -> None:
    rows = [StudyRow(label="EW", method="ew"), StudyRow(label="tuned", method="uw", trials=2, set={"train.epochs": 3})]
    rows.append(StudyRow(label="Rooms only", method="uw", data=["rooms"]))
    study = Study(title="T", tables=[StudyTable(name="t", title="T", rows=rows)], data=["rooms", "digits"])
    outcomes = [outcome(target, QMC, tmp_path) for target in targets(study)]
    write_planted(tmp_path, outcomes[1])
    outcomes = [outcome(target, QMC, tmp_path) for target in targets(study)]
    assert [(one.target.data, one.complete) for one in outcomes] == [("rooms", False), ("digits", True)]
    tuned = tuned_study(study, outcomes, (1000,))
    assert tuned.data == ["digits"] and [row.label for row in tuned.rows] == ["EW", "tuned"]
    assert tuned.rows[1].data == ["digits"] and tuned.rows[1].set["train.epochs"] == 3


def test_sequential_proposals_follow_from_the_records_alone(tmp_path: Path) -> None:
    search = Search("tpe", 4, (1000,))
    (target,) = targets(one_row("cagrad", 16))
    known = []
    for _ in range(4):  # batches
        write_planted(tmp_path, found := outcome(target, search, tmp_path), bad=(2,))
        known.append(len(found.known))
    assert known == [4, 8, 12, 16]
    final = outcome(target, search, tmp_path)
    assert final.complete and final.known == found.known
    assert [trial.settings for trial in final.known[:4]] == [
        trial.settings for trial in outcome(target, QMC, tmp_path / "none").known[:4]
    ]
    distance = [abs(math.log(trial.settings["train.lr"] / (2 * LR))) for trial in final.known[1:]]
    assert numpy.median(distance[-8:]) < numpy.median(distance[:3])
    # Without the record of a trial in the second batch, the third is not determined any more.
    spec = final.known[6].spec(1000)
    (run_folder(tmp_path, "digits", spec.variant, 1000) / "record.json").unlink()
    cut = outcome(target, search, tmp_path)
    assert len(cut.known) == 8 and len(cut.scores) == 6 and cut.known == final.known[:8]


def test_a_trial_with_several_seeds_has_their_mean_and_is_worst_if_one_failed(tmp_path: Path) -> None:
    runs = [_trial_run(0, score, seed) for seed, score in enumerate((0.5, 0.7))]
    assert trial_score(runs) == pytest.approx(0.6)
    assert trial_score([*runs, _trial_run(0, math.nan, 2)]) == -math.inf
    (target,) = targets(one_row("ew", 2))
    write_planted(tmp_path, outcome(target, QMC, tmp_path))
    assert not outcome(target, Search("qmc", 4, (1000, 1001)), tmp_path).complete


def _trial_run(trial: int, score: float, seed: int = 1000, **other: Any) -> TrialRun:
    values = {"status": "done", "selection": "accuracy", "epoch": 1, "epochs": 2, "steps": 3, "threads": 2}
    names = {"data": "digits", "row": "EW, tuned", "method": "ew", "variant": "ew", "seconds": 1800.0}
    return TrialRun(**{**names, **values, "trial": trial, "score": score, "seed": seed, **other})


def test_the_table_of_trials_is_read_as_it_was_written(tmp_path: Path) -> None:
    runs = [
        _trial_run(0, 0.1 + 0.2),
        _trial_run(1, 1 / 3, settings={"train.lr": 1e-05, "weighting.weights": [1.0, 0.5], "arch.place": "shared"}),
    ]
    path = write_trials(tmp_path / TRIALS, runs)
    assert read_trials(path) == runs
    assert "test" not in path.read_text().splitlines()[0]
    assert read_trials(tmp_path / "none.csv") == []
    lines = path.read_text().splitlines()
    for damaged in ("", "a,b\n1,2\n", "\n".join([*lines, "1,2"]), path.read_text().replace(",done,", ",fine,")):
        path.write_text(damaged)
        with pytest.raises(RecordError, match=r"trials.csv: .*expected"):
            read_trials(path)


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_replay_is_the_limit_of_resampled_repeats(k: int) -> None:
    draw = random.Random(k)
    scores = [draw.random() for _ in range(12)]
    best = sorted(max(draw.choices(scores, k=k)) for _ in range(20_001))
    found = best_of(scores, k)
    ranks = {score: rank for rank, score in enumerate(sorted(scores))}
    for exact, resampled in ((found.median, best[10_000]), (found.low, best[500]), (found.high, best[19_500])):
        assert abs(ranks[exact] - ranks[resampled]) <= 1


def test_replay_by_hand() -> None:
    """Of two trials, the better one is missed by half of the tunings of one trial, and by a quarter of those of two."""
    assert best_of([0.2, 0.4], 1).median == 0.2 and best_of([0.2, 0.4], 2).median == 0.4
    assert best_of([0.2, 0.4], 2).low == 0.2 and best_of([0.2, 0.4], 6).low == 0.4
    assert best_of([0.3], 5).median == 0.3
    assert best_of([-math.inf, -math.inf, 0.1], 1).median == -math.inf
    for wrong in (([], 1), ([0.1], 0)):
        with pytest.raises(ValueError, match="expected scores"):
            best_of(*wrong)


def test_the_table_of_tuning() -> None:
    runs = [_trial_run(0, 0.5), _trial_run(1, 0.7), _trial_run(2, math.nan, status="diverged"), _trial_run(3, 0.6)]
    table = tuning_table("digits", "Digits", runs)
    assert table is not None and tuning_table("rooms", "Rooms", runs) is None
    cells = dict(zip((column.head.text for column in table.columns), table.rows[0].cells, strict=True))
    assert cells["Trials"].text == "4" and cells["Not finished"].text == "1"
    assert cells["Default"].text == "50.00" and cells["Best"].text == "70.00"
    assert cells["Core-hours"].mean == pytest.approx(4.0)  # four runs of half an hour with two threads
    assert cells["k = 4"].text == "70.00 [50.00, 70.00]"
    assert "best_of_4" in comma_separated(table, "digits")


def test_a_report_links_to_its_tables_of_tuning(tmp_path: Path) -> None:
    write_trials(tmp_path / TUNING / TRIALS, [_trial_run(0, 0.5), _trial_run(1, 0.7, data="rooms")])
    with without_drawing():
        index, *files = write_reports(tmp_path, [make_record("digits", "EW", 0)], tmp_path / "out")
    page = index.read_text(encoding="utf-8")
    assert page.index("## Digits") < page.index("## Tuning") < page.index("](digits/tuning.tex)")
    assert tmp_path / "out" / "digits" / "tuning.csv" in files and "rooms/tuning" not in page
    with without_drawing():
        kept = write_reports(tmp_path, [make_record("digits", "EW", 0)], tmp_path / "out", data=["rooms"])
    assert tmp_path / "out" / "digits" / "tuning.csv" not in kept


def test_a_study_is_found_by_path_and_written_studies_are_read_again(tmp_path: Path) -> None:
    study = with_settings(with_trials(one_row("uw", 3), 5), {"train.epochs": 2})
    assert [row.trials for row in study.rows] == [0, 5]
    path = write_study(tmp_path / "mine.yaml", study)
    assert load_study(str(path)) == study
    assert yaml.safe_load(path.read_text())["seeds"] == [0, 1, 2]
    with pytest.raises(StudyError, match="expected a file, found none"):
        load_study(str(tmp_path / "none.yaml"))
    methods = with_trials(Study(title="T", methods=["ew", "uw"], data=["digits"]), 2)
    assert [(row.label, row.trials) for row in methods.rows] == [("EW", 2), ("UW", 2)]


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert tune.main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits"], "Expected --data NAME with --methods NAME"),
        (["--data", "digits", "--methods", "ew", "--tuning-seed", "1"], "found 1 among the reported seeds"),
        (["--data", "digits", "--methods", "ew", "--seeds", "1001", "--repeats", "2"], "found 1001 among"),
        (
            ["--data", "digits", "--methods", "ew", "--tuning-seed", str(2**32 - 1), "--repeats", "2"],
            "at most 4,294,967",
        ),
        (["--data", "digits", "--methods", "ew", "--set", "weighting.c=1"], "weighting"),
        (["--study", "embedded"], "Expected rows with `trials: N`"),
        (["--study", "embedded", "--methods", "ew"], "Expected one of --study and --methods"),
        (["--data", "nyuv2", "--methods", "ew", "--set", "data.protocol=published"], "validation set to select on"),
        (["--study", "embedded", "--trials", "2", "--data", "celeba"], "expected data sets of the study, found celeba"),
        (["--data", "digits", "--methods", "ew", "--arch", "normal"], "as a row of a study"),
    ],
)
def test_requests_that_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in error_of(arguments, capsys)


def test_without_optuna_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # importing it raises ImportError
    arguments = ["--data", "digits", "--methods", "pcgrad", "--trials", "9", "--results", str(tmp_path)]
    assert "install it with `pip install -e '.[tune]'`" in error_of(arguments, capsys)


def arguments_for(data_root: Path, results: Path) -> list[str]:
    arguments = ["--data", "digits", "--methods", "ew", "uw", "--trials", "3", "--epochs", "1", "--jobs", "1"]
    return [*arguments, "--seeds", "0", "--data-root", str(data_root), "--results", str(results)]


STUDY = """
title: T
data: [{data}]
set: {{train.epochs: 1}}
tables: [{{name: t, title: T, rows: [{rows}]}}]
"""


def study_file(folder: Path, rows: str, data: str = "digits") -> str:
    (folder / "study.yaml").write_text(STUDY.format(data=data, rows=rows))
    return str(folder / "study.yaml")


@pytest.mark.parametrize(
    ("rows", "data", "message"),
    [
        ("{label: U, method: uw, trials: 2}", "nosuch", "Unknown data set 'nosuch'."),
        (
            "{label: U, method: uw, trials: 2}, {label: U, method: uw, trials: 2, set: {train.batch_size: 16}}",
            "digits",
            "expected one tuned row 'U' on digits, found 2",
        ),
        (
            "{method: uw, trials: 2, set: {weighting.lr: 0.1}}, {method: uw, trials: 2, set: {weighting.lr: 0.2}}",
            "digits",
            "expected one tuned row 'UW' on digits, found 2",
        ),
    ],
)
def test_studies_that_cannot_be_tuned_say_why(
    rows: str, data: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = error_of(["--study", study_file(tmp_path, rows, data), "--results", str(tmp_path)], capsys)
    assert message in said and len(said.splitlines()) == 1


def test_names_of_data_sets_are_found_regardless_of_case(tmp_path: Path) -> None:
    path = study_file(tmp_path, "{method: uw, data: [Digits]}", "Digits")
    assert [one.data for one in targets(with_known_data(with_trials(load_study(path), 2)))] == ["digits"]
    assert load_study(path).rows[0].is_for("digits") and not load_study(path).rows[0].is_for("rooms")


def test_twins_have_no_trials(tmp_path: Path) -> None:
    study = with_trials(load_study(study_file(tmp_path, "{label: U, method: uw}, {label: F, twin_of: U}")), 2)
    assert [row.trials for row in study.rows] == [2, 0]


def test_a_row_in_two_tables_is_tuned_once(tmp_path: Path) -> None:
    study = one_row("ew", 3)
    twice = study.model_copy(update={"tables": [*study.tables, study.tables[0].model_copy(update={"name": "u"})]})
    write_planted(tmp_path, outcome(targets(twice)[0], QMC, tmp_path))
    runs = trial_runs([outcome(target, QMC, tmp_path) for target in targets(twice)])
    assert [run.trial for run in runs] == [0, 1, 2]


def test_seeds_of_trials_are_never_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not on the command line, not in the file, and a tuned study is not tuned a second time."""
    (target,) = targets(study := one_row("ew", 2))
    write_planted(tmp_path, outcome(target, QMC, tmp_path))
    path = str(write_study(tmp_path / "tuned.yaml", tuned_study(study, [outcome(target, QMC, tmp_path)], QMC.seeds)))
    assert load_study(path).trial_seeds == [1000]
    assert run.main(["--study", path, "--seeds", "0", "1000", "--dry-run"]) == 2
    assert "--seeds: expected seeds that no trial of the tuning had, found 1000" in capsys.readouterr().err
    assert "tuned already" in error_of(["--study", path], capsys)
    (tmp_path / "tuned.yaml").write_text((tmp_path / "tuned.yaml").read_text().replace("[0, 1, 2]", "[0, 1000]"))
    with pytest.raises(StudyError, match="seeds: expected seeds that no trial had"):
        load_study(path)
    write_trials(tmp_path / TUNING / TRIALS, trial_runs([outcome(target, QMC, tmp_path)]))
    beside = ["--method", "ew", "--data", "digits", "--dry-run", "--results"]
    assert run.main([*beside, str(tmp_path), "--seeds", "0", "1000"]) == 2
    assert "had, found 1000; choose others, or another --results." in capsys.readouterr().err
    assert run.main([*beside, str(tmp_path / TUNING)]) == 2
    assert "expected a folder of runs, found that of trials" in capsys.readouterr().err


def test_an_infinite_score_of_a_trial_is_refused(tmp_path: Path) -> None:
    path = write_trials(tmp_path / TRIALS, [TrialRun("digits", "EW", "ew", "ew", 0, 1000, "done", "accuracy", math.inf,
                                                     1, 1, 1, 1.0, 1)])  # fmt: skip
    with pytest.raises(RecordError, match="line 2: expected a score, found inf"):
        read_trials(path)


def test_a_damaged_trial_is_missing_and_one_with_other_settings_is_refused(tmp_path: Path) -> None:
    (target,) = targets(one_row("ew", 2))
    write_planted(tmp_path, found := outcome(target, QMC, tmp_path))
    whole = outcome(target, QMC, tmp_path)
    assert whole.complete
    path = run_folder(tmp_path, "digits", found.known[1].spec(1000).variant, 1000) / "record.json"
    text = path.read_text()
    path.write_text(text[:-100])
    assert outcome(target, QMC, tmp_path).scores == whole.scores[:1]
    path.write_text(text.replace('"batch_size": ', '"batch_size": 1'))
    with pytest.raises(PlanError, match="made with other settings"):
        outcome(target, QMC, tmp_path)


@pytest.mark.slow
def test_an_interrupted_tuning_goes_on_and_its_study_runs(
    tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "bench.tune", *arguments_for(data_root, tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not list(tmp_path.glob("tuning/*/*/*/record.json")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command continues the others" in said
    first = records(tmp_path)
    assert 0 < len(first) < 6 and not (tmp_path / "tuned.yaml").exists()
    assert len(read_trials(tmp_path / TUNING / TRIALS)) == len(first)
    assert tune.main(arguments_for(data_root, tmp_path)) == 0
    everything = records(tmp_path)
    assert len(everything) == 6 and first.items() <= everything.items()
    assert all(record.trial for record in read_records(tmp_path / TUNING))
    assert tune.main(arguments_for(data_root, tmp_path)) == 0
    assert records(tmp_path) == everything and "nothing to train" in capsys.readouterr().out

    options = ["--study", str(tmp_path / "tuned.yaml"), "--results", str(tmp_path)]
    assert run.main([*options, "--data-root", str(data_root), "--jobs", "1"]) == 0
    assert report.main([*options, "--out", str(tmp_path / "reports")]) == 0
    text = (tmp_path / "reports" / "digits" / "tuning.md").read_text()
    assert "UW (tuned)" in text and "Best of k" in text
    tuned = {row.label: specs_of(row, "digits", 0)[0].variant for row in load_study(str(tmp_path / "tuned.yaml")).rows}
    kept = {path.parent.parent.name for path in tmp_path.glob("digits/*/seed-0/record.json")}
    assert not any(record.trial for record in read_records(tmp_path))
    assert kept == set(tuned.values())
    refused_with_other_trials(tmp_path, [*options, "--out", str(tmp_path / "reports")], capsys)


def refused_with_other_trials(results: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A table that lacks a trial, and a reported run of a trial's seed."""
    path = results / TUNING / TRIALS
    whole = read_trials(path)
    write_trials(path, whole[:-1])
    assert report.main(arguments) == 2
    assert "as the study says, found" in capsys.readouterr().err
    write_trials(path, whole)
    kept = next(results.glob("digits/*/seed-0"))
    record = read_record(kept / RECORD)
    write_record(kept.parent / "seed-1000", record.model_copy(update={"seed": 1000}))
    assert report.main(arguments) == 2
    assert "of seeds that no trial had, found seed 1000" in capsys.readouterr().err


def records(results: Path) -> dict[str, int]:
    """When each record of a trial was written."""
    return {str(path): path.stat().st_mtime_ns for path in results.glob("tuning/*/*/*/record.json")}
