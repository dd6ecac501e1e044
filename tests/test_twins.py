"""Frozen twins of runs: their constants, when they are planned, and what has none."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from data_trees import write_digits
from pydantic import ValidationError
from record_factory import without_drawing

from bench import report, run
from bench.cli.request import requested
from bench.forecasting.forecast import runs_of
from bench.records.all_records import read_records
from bench.records.record import Record
from bench.records.store import CURVE, RECORD
from bench.spec import study as studies
from bench.spec.resolve import resolve
from bench.spec.study import Study
from bench.spec.twins import twin_row, why_no_twin

STUDY = """
title: Methods and their twins
data: [digits]
seeds: [0, 1]
set: {train.batch_size: 8, train.epochs: 2}
tables:
  - name: twins
    title: Twins
    rows:
      - {label: The norms, method: gradnorm}
      - {label: The bargain, method: nash_mtl}
      - {label: Signs, method: graddrop}
      - {label: The sum, method: ew}
      - {label: Norms frozen, twin_of: The norms}
      - {label: Bargain frozen, twin_of: The bargain}
      - {label: Signs frozen, twin_of: Signs}
      - {label: Sum frozen, twin_of: The sum}
"""
TASKS = [task.key for task in resolve("digits").info.tasks]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small digits, a study, and its results."""
    folder = tmp_path_factory.mktemp("twins")
    write_digits(folder / "data")
    (folder / "studies").mkdir()
    (folder / "studies" / "trial.yaml").write_text(STUDY)
    return folder


@pytest.fixture
def ask(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(studies, "STUDIES", place / "studies")

    def command(*words: str) -> int:
        where = ["--data-root", str(place / "data"), "--device", "cpu", "--jobs", "1"]
        results = [] if "--from" in words else ["--results", str(place / "results")]
        return run.main([*words, *where, *results])

    return command


@pytest.fixture(scope="module")
def done(place: Path) -> list[Record]:
    """The records of the study, all from one command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "STUDIES", place / "studies")
        words = ["--study", "trial", "--data-root", str(place / "data"), "--results", str(place / "results")]
        assert run.main([*words, "--device", "cpu", "--jobs", "1"]) == 0
    return read_records(place / "results")


def twins_of(records: Sequence[Record], method: str) -> list[Record]:
    return [r for r in records if r.weighting == "frozen" and f"/{method}@" in r.settings["weighting"]["source"]]


def means_by_hand(folders: Sequence[Path], name: str) -> list[float]:
    """The mean over epochs and seeds of each task's column; all epochs have as many steps."""
    rows = [row for folder in folders for row in csv.DictReader((folder / CURVE).read_text().splitlines())]
    return [math.fsum(float(row[f"{name}/{task}"]) for row in rows) / len(rows) for task in TASKS]


def seeds_of(place: Path, method: str) -> list[Path]:
    return sorted((place / "results" / "digits").glob(f"{method}@*/seed-*"))


def test_twins_follow_their_sources_in_one_command(place: Path, done: list[Record]) -> None:
    assert len(done) == 12 and {record.status for record in done} == {"done"}
    by_label = [record.labels.method for record in done]
    assert by_label.count("GradNorm, frozen") == by_label.count("Nash-MTL, frozen") == 2
    for record in twins_of(done, "gradnorm"):
        weighting = record.settings["weighting"]
        assert weighting["weights"] == pytest.approx(means_by_hand(seeds_of(place, "gradnorm"), "weight"), rel=1e-14)
        assert (weighting["head_rule"], weighting["head_weights"], weighting["max_norm"]) == (
            "weighted",
            [1.0],
            "Infinity",
        )
        assert weighting["source_seeds"] == [0, 1] and record.head_rule == "weighted"


def test_a_twin_of_nash_mtl_keeps_its_clip_and_its_weights_from_before_it(place: Path, done: list[Record]) -> None:
    """Its combination has norm √m, so that the clip to 1 divides by that: what was applied gives the weights before."""
    (first, second) = twins_of(done, "nash_mtl")
    weighting, folders = first.settings["weighting"], seeds_of(place, "nash_mtl")
    assert weighting == second.settings["weighting"]
    assert not any(json.loads((folder / RECORD).read_text())["solver_fallbacks"] for folder in folders)
    before = [math.sqrt(len(TASKS)) * mean for mean in means_by_hand(folders, "weight")]
    assert weighting["weights"] == pytest.approx(before, rel=1e-5)
    assert weighting["head_weights"] == pytest.approx(weighting["weights"], rel=1e-14)
    assert (weighting["head_rule"], weighting["max_norm"]) == ("own", 1.0)


def test_everything_but_the_weighting_is_that_of_the_source(done: list[Record]) -> None:
    for method in ("gradnorm", "nash_mtl"):
        source = next(record for record in done if record.weighting == method)
        for twin in twins_of(done, method):
            assert {**twin.settings, "weighting": None} == {**source.settings, "weighting": None}


def test_a_second_call_does_nothing_and_says_what_has_no_twin(
    ask: Callable[..., int], done: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    assert done and ask("--study", "trial") == 0
    out = capsys.readouterr().out
    assert "All 12 runs are already" in out
    assert "digits, Signs frozen: left out; GradDrop sets the shared gradient itself" in out
    assert "digits, Sum frozen: left out; EW has constant weights: it is its own twin." in out


def test_what_waits_is_listed_and_counted(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(studies, "STUDIES", place / "studies")
    words = ["--study", "trial", "--results", str(tmp_path), "--data-root", str(place / "data"), "--dry-run"]
    assert run.main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "digits, Norms frozen: waits until seeds 0, 1 of digits/gradnorm@" in out
    assert "GradNorm, frozen, once its weights are known" in out
    assert "8 runs to train, 0 already kept, 4 frozen twins that wait for other runs." in out
    request, _ = requested(run._parser().parse_args(words))
    assert len(runs_of(request, place / "data", tmp_path)[0]) == 12


def test_reports_show_the_twins_of_a_study(place: Path, done: list[Record], tmp_path: Path) -> None:
    assert done
    with pytest.MonkeyPatch.context() as patch, without_drawing():
        patch.setattr(studies, "STUDIES", place / "studies")
        results = ["--results", str(place / "results"), "--out", str(tmp_path)]
        assert report.main(["--study", "trial", *results]) == 0
        table = (tmp_path / "digits" / "twins" / "scores.md").read_text()
        assert (
            "| Norms frozen |" in table
            and "| Bargain frozen |" in table
            and "| Signs frozen" not in table
            and "Signs frozen" in table
        )
        assert report.main(results) == 0
    assert "| Nash-MTL, frozen |" in (tmp_path / "digits" / "scores.md").read_text()


def test_twins_of_a_named_run(
    place: Path, ask: Callable[..., int], done: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a row: what the study has. Of one seed: its own means."""
    assert done
    (row,) = {folder.parent for folder in seeds_of(place, "nash_mtl")}
    assert ask("--method", "frozen", "--from", str(row)) == 0
    assert "All 2 runs are already" in capsys.readouterr().out
    assert ask("--method", "frozen", "--from", str(row / "seed-1"), "--dry-run") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 runs to train" in out and "seed 1, 2 epochs" in out and "weighting.source_seeds=[1]" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "frozen", "--from", "{missing}"], "expected the folder of a run, results/<data>/<variant>"),
        (["--method", "ew", "--from", "{nash_mtl}"], "--from: expected --method frozen, found ew."),
        (["--method", "frozen", "--from", "{ew}"], "EW has constant weights: it is its own twin."),
        (["--method", "frozen", "--from", "{graddrop}"], "GradDrop sets the shared gradient itself"),
        (["--method", "frozen", "--from", "{nash_mtl}", "--data", "rooms"], "expected a data set with the tasks"),
        (["--method", "frozen", "--from", "{nash_mtl}", "--data", "all"], "expected at most one data set"),
        (
            ["--method", "frozen", "--from", "{nash_mtl}", "--set", "weighting.weights=[1]"],
            "expected no --set weighting",
        ),
        (["--method", "frozen", "--from", "{nash_mtl}", "--arch", "normal"], "expected no --arch"),
        (["--method", "frozen", "--from", "{nash_mtl}", "--study", "trial"], "expected no --study"),
    ],
)
def test_what_from_refuses(
    words: Sequence[str],
    message: str,
    place: Path,
    ask: Callable[..., int],
    done: list[Record],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert done
    rows = {name: str(seeds_of(place, name)[0].parent) for name in ("nash_mtl", "ew", "graddrop")}
    assert ask(*(word.format(missing=place / "none", **rows) for word in words)) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1


def copied(place: Path, to: Path) -> Path:
    """A copy of Nash-MTL's row, in the results folder `to`."""
    row = seeds_of(place, "nash_mtl")[0].parent
    return Path(shutil.copytree(row, to / "digits" / row.name))


def change_record(folder: Path, **changes: object) -> None:
    path = folder / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_curve(folder: Path, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    rows = change(list(csv.DictReader((folder / CURVE).read_text().splitlines())))
    with (folder / CURVE).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


DAMAGES: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "failed": (lambda seed: change_record(seed, status="failed", test={}), "expected a finished run, found one that"),
    "unfinished": (lambda seed: (seed / RECORD).unlink(), "expected a finished run, found one that is not finished"),
    "versions": (lambda seed: change_record(seed, versions={"engine": 0}), "expected seeds of one version of the code"),
    "data": (lambda seed: change_record(seed, fingerprint={"train": "0"}), "expected a run on the data that is here"),
    "no curve": (lambda seed: (seed / CURVE).unlink(), "expected the curve of a finished run, found none"),
    "nan": (
        lambda seed: change_curve(seed, lambda rows: [{**row, f"unclipped_weight/{TASKS[0]}": "inf"} for row in rows]),
        "expected finite numbers in column 'unclipped_weight/",
    ),
    "older": (
        lambda seed: change_curve(
            seed, lambda rows: [{k: v for k, v in row.items() if "unclipped" not in k} for row in rows]
        ),
        "expected a column 'unclipped_weight/",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_runs_that_cannot_be_frozen_say_why(
    damage: str,
    place: Path,
    ask: Callable[..., int],
    done: list[Record],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert done
    row = copied(place, tmp_path)
    break_it, message = DAMAGES[damage]
    break_it(row / "seed-1")
    assert ask("--method", "frozen", "--from", str(row), "--dry-run") == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1


def test_a_seed_that_diverged_is_named(
    place: Path, ask: Callable[..., int], done: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert done
    row = copied(place, tmp_path)
    change_record(row / "seed-1", status="diverged")
    assert ask("--method", "frozen", "--from", str(row), "--dry-run") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "seed-1: the run diverged; the means are over the other seeds." in out
    assert "weighting.source_seeds=[0]" in out


@pytest.mark.slow
def test_twins_of_runs_that_were_replaced_are_marked(
    place: Path, done: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a source has other weights, its twin is that of runs that are gone; a new twin takes its place."""
    assert done
    monkeypatch.setattr(studies, "STUDIES", place / "studies")
    results = Path(shutil.copytree(place / "results", tmp_path / "results"))
    mark = "frozen weights of runs that have been replaced"

    def table() -> str:
        with without_drawing():
            assert report.main(["--study", "trial", "--results", str(results), "--out", str(tmp_path / "out")]) == 0
        return (tmp_path / "out" / "digits" / "twins" / "scores.md").read_text()

    assert mark not in table()
    (seed, _) = sorted((results / "digits").glob("gradnorm@*/seed-*"))
    whole = (seed / CURVE).read_text()
    (seed / CURVE).unlink()
    assert table().count(mark) == 1
    (seed / CURVE).write_text(whole)
    assert mark not in table()
    change_curve(seed, lambda rows: [{**row, f"weight/{TASKS[0]}": "0.5"} for row in rows])
    text = table()
    assert text.count(mark) == 1 and "| Norms frozen" in text and "| Bargain frozen |" in text
    words = ["--study", "trial", "--data-root", str(place / "data"), "--results", str(results)]
    assert run.main([*words, "--device", "cpu", "--jobs", "1"]) == 0
    assert mark not in table() and "of 2 twins" in table()


def test_from_a_folder_without_parents(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--method", "frozen", "--from", "/", "--dry-run"]) == 2
    assert "expected the folder of a run" in capsys.readouterr().err


def test_the_mean_is_over_all_steps_of_all_seeds_and_exact(tmp_path: Path) -> None:
    """Epochs of 1, 3 and 2 steps of two seeds; 0.1 six times has mean 0.1."""
    spec = resolve("rooms", "uw")
    a, b, c = (f"weight/{task}" for task in spec.tasks)
    head = f"epoch,step,{a},{b},{c}\n"
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    (tmp_path / "0" / CURVE).write_text(f"{head}1,1,4.0,0.1,0.3\n2,4,2.0,0.1,0.3\n")
    (tmp_path / "1" / CURVE).write_text(f"{head}1,2,7.0,0.1,0.3\n")
    row = twin_row(spec, {0: tmp_path / "0", 1: tmp_path / "1"}, "rooms")
    assert row.set["weighting.weights"] == [(4 + 3 * 2 + 2 * 7) / 6, 0.1, 0.3]


def test_what_has_no_twin() -> None:
    def reason(weighting: str, **settings: object) -> str:
        assignments = {f"weighting.{key}": value for key, value in settings.items()}
        return why_no_twin(resolve("rooms", weighting=weighting, assignments=assignments))

    for name in ("graddrop", "db_mtl", "moco"):
        assert "sets the shared gradient itself" in reason(name)
    for name in ("ew", "fixed", "frozen"):
        assert "has constant weights" in reason(name)
    assert "reads 2 batches" in reason("modo") and "reads 3 batches" in reason("sdmgrad")
    assert "clips" in reason("nash_mtl", every=5) and "clips" in reason("fairgrad", momentum=0.5)
    assert not reason("nash_mtl", every=5, max_norm=0.0) and not reason("mgda", every=5) and not reason("imtl")
    assert why_no_twin(resolve("rooms", "normal"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"label": "t", "twin_of": "x"}], "row 't' is the twin of 'x': expected such a row on rooms, found none"),
        (
            [{"label": "u", "method": "uw", "data": ["digits"]}, {"label": "t", "twin_of": "u"}],
            "expected such a row on rooms",
        ),
        (
            [{"label": "u", "method": "uw"}, {"label": "t", "twin_of": "u", "method": "ew"}],
            "expected a row without method",
        ),
        (
            [{"label": "u", "method": "uw"}, {"label": "t", "twin_of": "u", "set": {"train.lr": 1}}],
            "no settings of its",
        ),
    ],
)
def test_twins_that_a_study_cannot_have(rows: list[dict[str, object]], message: str) -> None:
    table = {"name": "t", "title": "T", "rows": rows}
    with pytest.raises(ValidationError, match=message):
        Study.model_validate({"title": "S", "data": ["rooms", "digits"], "tables": [table]})
