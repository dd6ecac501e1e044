"""Data that changes between two calls of the same command: nothing goes on, is kept or is averaged as if it had not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from data_trees import write_digits
from PIL import Image

from bench import data as data_command
from bench import plan as plan_command
from bench import run as run_command
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.records.all_records import read_records
from bench.records.record import Record
from bench.records.store import CHECKPOINT, RECORD, read_record, run_folder
from bench.spec.resolve import resolve
from datasets.contract import DataError
from datasets.fingerprint import PARTS, WHOLE, fingerprint

CPU = torch.device("cpu")
DOMAINS = ("plain", "inverted", "outline", "noisy")
QUICK = {"train.epochs": 2, "train.batch_size": 8}
PLACE = "plain/images/3"


class Stop(Exception):
    """An interruption after the first epoch."""


@dataclass(frozen=True)
class Bench:
    """A small data set, lists of its files, and results."""

    root: Path
    results: Path
    lists: Path

    @property
    def data(self) -> Path:
        return self.root / "digits"

    def words(self, *more: str) -> list[str]:
        settings = [f"{key}={value}" for key, value in QUICK.items()]
        request = ["--method", "ew", "--data", "digits", "--seeds", "0", "--set", *settings, *more]
        return [*request, "--data-root", str(self.root), "--results", str(self.results)]

    def run(self, *more: str) -> int:
        return run_command.main([*self.words(*more), "--jobs", "1"])

    def prepare(self) -> None:
        assert data_command.main(["prepare", "digits", "--data-root", str(self.root)]) == 0

    def interrupt(self, seed: int = 0, **settings: object) -> Path:
        """Trains for one epoch; returns the folder of the run, with its checkpoint."""
        spec = resolve("digits", "ew", seed=seed, assignments={**QUICK, **settings})
        folder = run_folder(self.results, "digits", spec.variant, seed)

        def stop(epochs: int) -> None:
            if epochs == 1:
                raise Stop

        with pytest.raises(Stop):
            train(spec, RunContext(self.data, folder, CPU, 1), stop)
        assert (folder / CHECKPOINT).is_file()
        return folder

    def fresh(self, folder: Path, **settings: object) -> Record:
        """A run that never had a checkpoint."""
        spec = resolve("digits", "ew", assignments={**QUICK, **settings})
        return train(spec, RunContext(self.data, folder, CPU, 1), lambda epochs: None)


def write_lists(folder: Path, data: Path) -> None:
    """Of each class three digits to train, one to validate and one to test, each in two views."""
    folder.mkdir()
    for domain in DOMAINS:
        lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for place in sorted((data / domain / "images").iterdir()):
            files = [f"{file.relative_to(data)} {place.name}" for file in sorted(place.iterdir())]
            for part, members in zip(lines, (files[:6], files[6:8], files[8:10]), strict=True):
                lines[part] += members
        for part, rows in lines.items():
            (folder / f"{domain}_{part}.txt").write_text("\n".join(rows) + "\n")


@pytest.fixture
def small(tmp_path: Path) -> Bench:
    data = write_digits(tmp_path / "data")
    write_lists(tmp_path / "lists", data)
    return Bench(tmp_path / "data", tmp_path / "results", tmp_path / "lists")


def swap(first: Path, second: Path) -> None:
    third = first.with_name("aside")
    first.rename(third)
    second.rename(first)
    third.rename(second)


def scores(record: Record) -> dict[str, object]:
    return {key: value for key, value in record.model_dump().items() if key in ("test", "validation", "last_test")}


def repaint(path: Path) -> None:
    """Another picture of the same size, so that only its pixels differ."""
    Image.new("RGB", (8, 8), (200, 30, 60)).save(path)


def an_image(small: Bench) -> Path:
    return sorted((small.data / PLACE).iterdir())[2]


def test_a_run_whose_lists_are_swapped_does_not_go_on(small: Bench, tmp_path: Path) -> None:
    """Otherwise it would go on with a network trained on what are test images now."""
    small.interrupt(**{"data.splits": str(small.lists)})
    for domain in DOMAINS:
        swap(small.lists / f"{domain}_train.txt", small.lists / f"{domain}_test.txt")
    assert small.run("--splits", str(small.lists)) == 0
    (record,) = read_records(small.results)
    fresh = small.fresh(tmp_path / "fresh", **{"data.splits": str(small.lists)})
    assert (record.fingerprint, scores(record)) == (fresh.fingerprint, scores(fresh))
    assert record.splits["counts"]["train"] == dict.fromkeys(DOMAINS, 20)


@pytest.mark.slow
def test_a_finished_run_on_other_lists_is_another_run(small: Bench, tmp_path: Path) -> None:
    assert small.run("--splits", str(small.lists)) == 0
    moved = small.lists.rename(tmp_path / "moved")
    for path in moved.iterdir():  # the same lists elsewhere, with the line ends of another system
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (moved / "._plain_train.txt").write_bytes(b"\0\5\x16\7")  # left by a file manager
    assert small.run("--splits", str(moved)) == 0
    assert len(read_records(small.results)) == 1
    for domain in DOMAINS:  # a digit is in one part, whatever the domain
        swap(moved / f"{domain}_train.txt", moved / f"{domain}_test.txt")
    assert small.run("--splits", str(moved)) == 0
    first, second = read_records(small.results)
    assert first.variant != second.variant and first.fingerprint != second.fingerprint


def test_a_checkpoint_of_other_images_is_not_resumed(
    small: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.interrupt()
    repaint(an_image(small))
    small.prepare()
    for command in (lambda: plan_command.main(small.words("--budget", "1")), lambda: small.run("--dry-run"), small.run):
        assert command() == 0
        said = capsys.readouterr().out
        assert (
            "starts again from the first epoch, since its checkpoint can't be resumed: it was made from other" in said
        )
    (record,) = read_records(small.results)
    assert scores(record) == scores(small.fresh(tmp_path / "fresh"))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_resumed(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small.interrupt()
    os.truncate(folder / CHECKPOINT, 1000)
    said = "starts again from the first epoch, since its checkpoint can't be resumed: the file is damaged: expected a"
    for command in (lambda: small.run("--dry-run"), lambda: plan_command.main(small.words("--budget", "1"))):
        assert command() == 0
        assert (
            f"{said} checkpoint, found other content; it will be kept as {CHECKPOINT}.bad." in capsys.readouterr().out
        )
        assert [path.name for path in folder.iterdir()] == [CHECKPOINT]
    assert small.run() == 0
    assert f"{said} checkpoint, found other content; it is kept as {CHECKPOINT}.bad." in capsys.readouterr().out
    (record,) = read_records(small.results)
    assert (record.status, record.epochs) == ("done", 2)


def test_a_dry_run_says_if_it_could_not_compare_a_checkpoint(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    small.interrupt()
    path = sorted((small.data / PLACE).iterdir())[2]
    os.utime(path, ns=(0, 0))
    assert small.run("--dry-run") == 0
    said = f"1 of 100 images changed since they were decoded, the first is {path}; `python -m bench.run` decodes that"
    assert f"{said} and then compares it with what the checkpoint of 1 unfinished run" in capsys.readouterr().out


def test_a_checkpoint_of_the_same_images_is_resumed(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    small.interrupt()
    for path in small.data.rglob("*.png"):
        os.utime(path)
    assert small.run() == 0
    assert "starts again" not in capsys.readouterr().out


def renamed_class(small: Bench) -> None:
    for domain in DOMAINS:
        swap(small.data / domain / "images" / "3", small.data / domain / "images" / "4")


CHANGES: dict[str, Callable[[Bench], object]] = {
    "an image": lambda small: repaint(an_image(small)),
    "a file less": lambda small: an_image(small).unlink(),
    "labels": renamed_class,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_run_of_other_data_is_refused_by_run_and_plan(
    change: str, small: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.run() == 0
    before = tmp_path / "before"
    shutil.copytree(small.data, before)
    capsys.readouterr()
    CHANGES[change](small)
    refused = f"{next(small.results.rglob(RECORD))}: expected the data that is here now, found a run on other images"
    code = plan_command.main(small.words())  # it decodes nothing, so it can't compare pixels
    told = "".join(capsys.readouterr())
    assert code == 0
    assert re.search("of .* images (changed since they were decoded|are not decoded yet), the first is", told)
    assert "`python -m bench.run` decodes that and then compares it with what 1 kept run of digits saw." in told
    for command in (small.run, lambda: plan_command.main(small.words())):
        assert command() == 2
        error = capsys.readouterr().err
        assert error.startswith(refused) and len(error.splitlines()) == 1
    shutil.rmtree(small.data)
    shutil.copytree(before, small.data, copy_function=shutil.copy)  # other times
    assert small.run() == 0
    assert "All 1 runs are already" in capsys.readouterr().out


def test_a_further_seed_on_other_data_is_announced_before_it_trains(
    small: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert small.run() == 0
    repaint(an_image(small))
    small.prepare()
    announced = (
        f"digits: 1 finished run in {small.results / 'digits'} saw other data than what is here now, the first is"
    )
    capsys.readouterr()
    for options in (("--seeds", "1"), ("--method", "uw")):
        assert small.run(*options, "--dry-run") == 0
        assert announced in capsys.readouterr().out
    assert plan_command.main(small.words("--seeds", "1", "--budget", "1")) == 0
    assert announced in capsys.readouterr().out
    assert small.run("data.split_seed=3", "--dry-run") == 0  # declared as other data
    assert announced not in capsys.readouterr().out


def test_data_that_changes_while_runs_train_stops_them(small: Bench, tmp_path: Path) -> None:
    """A long study starts its last runs days after its first."""
    spec = resolve("digits", "ew", assignments=QUICK)
    planned = fingerprint(spec.info.read(small.data, spec.data_settings))
    repaint(an_image(small))
    context = RunContext(small.data, tmp_path / "run", CPU, 1, fingerprint=planned)
    with pytest.raises(DataError, match=r"expected the data that was here when the runs were planned, found other"):
        train(spec, context, lambda epochs: None)


def test_each_seed_may_have_a_partition_of_its_own(small: Bench) -> None:
    assert small.run("data.split_per_seed=true", "--seeds", "0", "1") == 0
    first, second = read_records(small.results)
    assert first.variant == second.variant and first.settings == second.settings
    assert (first.splits["seed"], second.splits["seed"]) == (0, 1)
    assert all(first.fingerprint[part] != second.fingerprint[part] for part in PARTS)
    assert first.fingerprint[WHOLE] == second.fingerprint[WHOLE]


def test_a_partition_per_seed_is_refused_where_there_is_none_to_draw() -> None:
    assignments = {"data.protocol": "published", "data.split_per_seed": True}
    spec = resolve("nyuv2", "ew", assignments=assignments)
    with pytest.raises(DataError, match=r"data\.split_per_seed: expected False for .*; it has no use there, leave it"):
        spec.info.read(Path(), spec.data_settings)


def test_records_say_what_they_saw(small: Bench) -> None:
    assert small.run() == 0
    (path,) = small.results.rglob(RECORD)
    spec = resolve("digits", "ew", assignments=QUICK)
    assert read_record(path).fingerprint == fingerprint(spec.info.read(small.data, spec.data_settings))
