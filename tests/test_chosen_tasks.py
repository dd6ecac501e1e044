"""The setting `data.tasks`: a problem with some of its tasks, and how their runs are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from record_factory import ACCURACY, DIGITS, even_scores, make_record
from synthetic_splits import random_splits

from bench.engine.batches import training_batches
from bench.engine.seeds import generator_for
from bench.forecasting.sizes import dataset_size
from bench.records.record import Record
from bench.records.store import RecordError
from bench.reporting.comparison import comparisons
from bench.reporting.planned import PlannedRow, PlannedTable, arranged
from bench.spec.lookup import UnknownName
from bench.spec.resolve import resolve
from bench.spec.run_specs import specs_of
from bench.spec.settings import SpecError
from bench.spec.study import StudyRow
from datasets import DATASETS
from datasets.chosen_tasks import with_tasks
from datasets.contract import Batch, DatasetInfo, Splits
from datasets.fingerprint import fingerprint

CPU = torch.device("cpu")


def restricted(data: str, keys: Sequence[str], whole: Splits) -> tuple[DatasetInfo, Splits]:
    """A problem of random images with these tasks, and its splits as its reader gives them."""
    info = with_tasks(replace(DATASETS[data], read=lambda folder, settings: whole), keys)
    return info, info.read(None, None)  # type: ignore[arg-type]


def batches(splits: Splits, info: DatasetInfo, augment: bool = False) -> list[Batch]:
    return list(training_batches(splits.train, info, 5, generator_for(0, "test"), CPU, augment))


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("data", "keys"), [("digits", ["inverted", "noisy"]), ("rooms", ["depth"])])
def test_chosen_tasks_see_the_batches_that_they_see_beside_all_tasks(data: str, keys: list[str], augment: bool) -> None:
    whole = random_splits(DATASETS[data])
    info, splits = restricted(data, keys, whole)
    assert [task.key for task in info.tasks] == keys
    together, apart = batches(whole, DATASETS[data], augment), batches(splits, info, augment)
    assert len(together) == len(apart)
    places = [place for place, task in enumerate(DATASETS[data].tasks) if task.key in keys]
    for every, some in zip(together, apart, strict=True):
        for group in some:
            for number, target in group.targets.items():
                (of_all,) = [g for g in every if places[number] in g.targets]
                assert torch.equal(group.inputs, of_all.inputs)
                assert torch.equal(target, of_all.targets[places[number]])
        assert sorted(number for group in some for number in group.targets) == [*range(len(keys))]


def test_a_fingerprint_is_of_what_the_tasks_read() -> None:
    info = DATASETS["digits"]
    whole = random_splits(info)
    _, splits = restricted("digits", ["plain", "noisy"], whole)
    other = random_splits(info)
    for place in (1, 2):  # images that neither task reads
        other.train[place].images.zero_()
    assert fingerprint(restricted("digits", ["plain", "noisy"], other)[1]) == fingerprint(splits)
    assert fingerprint(other) != fingerprint(whole)
    other.train[3].images.zero_()
    found = fingerprint(restricted("digits", ["plain", "noisy"], other)[1])
    assert {part for part in found if found[part] != fingerprint(splits)[part]} == {"train", "whole"}


def test_tasks_are_chosen_in_the_order_of_the_data_set() -> None:
    spec = resolve("digits", "ew", assignments={"data.tasks": ["Noisy", "plain"]})
    assert spec.tasks == ["plain", "noisy"]
    assert spec.overrides == {"data.tasks": ["plain", "noisy"]}
    assert spec.variant == resolve("digits", "ew", assignments={"data.tasks": ["plain", "noisy"]}).variant != "ew"
    everyone = [task.key for task in DATASETS["digits"].tasks]
    assert resolve("digits", "ew", assignments={"data.tasks": everyone[::-1]}) == resolve("digits", "ew")


@pytest.mark.parametrize(
    ("tasks", "error", "message"),
    [
        (["plain", "noisi"], UnknownName, "Unknown task of Digits 'noisi'. Did you mean 'noisy'?"),
        (["plain", "plain"], SpecError, "data.tasks: expected each task once, found plain twice."),
        ("plain", SpecError, "data.tasks: "),
        ([1], SpecError, "data.tasks: "),
    ],
)
def test_unknown_tasks_are_refused_in_one_line(tasks: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as found:
        resolve("digits", "ew", assignments={"data.tasks": tasks})
    assert str(found.value).startswith(message)
    assert "\n" not in str(found.value)


def test_an_estimate_evaluates_the_images_of_the_chosen_tasks() -> None:
    """Numbers of images as published for digits: 2,148, 710 and 736 of each domain."""
    size = dataset_size("digits", resolve("digits", "ew", assignments={"data.tasks": ["plain", "noisy"]}).settings.data)
    assert (size.training, size.validation, size.test) == (2148, 2 * 710, 2 * 736)
    one = dataset_size("digits", resolve("digits", "ew", assignments={"data.tasks": ["noisy"]}).settings.data)
    assert (one.training, one.validation, one.test) == (2148, 710, 736)


def test_a_row_of_a_study_permutes_as_many_numbers_as_it_has_tasks() -> None:
    row = StudyRow(
        method="normal",
        set={"data.tasks": ["plain", "noisy"]},
        permute={"arch.initial_positions": [1.0, 1.25, 1.5, 1.75]},
    )
    found = [spec.overrides["arch.initial_positions"] for spec in specs_of(row, "digits", 0)]
    assert found == [[1.0, 1.25], [1.25, 1.0]]


def on(keys: Sequence[str], method: str = "EW", seed: int = 0, **fields: Any) -> Record:
    """A record of a run on some tasks of digits."""
    scores = {key: even_scores("digits")[key] for key in keys}
    chosen = {"data.tasks": list(keys)} if len(keys) < len(DIGITS) else {}
    settings = {"train": {"epochs": 10}, "data": {"tasks": list(keys)} if chosen else {}}
    known = {"tasks": [task for task in DIGITS if task.key in keys], "overrides": chosen, "settings": settings}
    variant = method.lower() + ("@" + "+".join(keys) if chosen else "")
    given = {**known, **dict.fromkeys(("validation", "test", "last_test"), scores), "variant": variant, **fields}
    return make_record("digits", method, seed, **given)


def test_a_set_of_tasks_is_a_comparison_of_its_own() -> None:
    some = ["plain", "noisy"]
    records = [on(some), on(some, "UW"), make_record(), make_record(method="UW")]
    whole, part = comparisons(records)
    assert (whole.folder, whole.label, whole.chosen) == ("digits", "Digits", ())
    assert (part.folder, part.label) == ("digits/tasks-plain+noisy", "Digits, tasks Plain, Noisy")
    assert [task.key for task in part.tasks] == some
    assert part.common == {"data.tasks": some}
    assert part.baseline is not None and [v.label for v in part.variants] == ["EW", "UW"]


def test_many_tasks_have_a_short_folder() -> None:
    tasks = [DIGITS[0].model_copy(update={"key": f"a_long_name_of_a_task_{i}"}) for i in range(12)]
    scores = {task.key: {"accuracy": 0.5} for task in tasks}
    keys = [task.key for task in tasks]
    parts = dict.fromkeys(("validation", "test", "last_test"), scores)
    settings = {"data": {"tasks": keys}}
    (found,) = comparisons([make_record(tasks=tasks, overrides={"data.tasks": keys}, settings=settings, **parts)])
    assert found.folder.startswith("digits/tasks-12-")
    assert len(found.folder) < 40


def test_a_record_has_the_tasks_of_its_settings() -> None:
    with pytest.raises(ValueError, match=r"data\.tasks: expected the tasks of the record"):
        make_record(settings={"data": {"tasks": ["plain"]}})


def test_other_tasks_that_no_setting_explains_are_refused() -> None:
    other = make_record(
        method="UW",
        tasks=[DIGITS[0].model_copy(update={"metrics": [ACCURACY, ACCURACY.model_copy(update={"key": "f1"})]})],
        **{part: {"plain": {"accuracy": 0.9, "f1": 0.9}} for part in ("validation", "test", "last_test")},
    )
    with pytest.raises(RecordError, match="expected the tasks and metrics of digits/ew/seed-0"):
        comparisons([make_record(), other])


def test_single_task_runs_are_offered_to_every_comparison_of_the_data_set() -> None:
    some = ["plain", "noisy"]
    singles = [on(some, "STL", seed) for seed in (0, 1)]
    broken = on(some, "STL", 2, status="diverged", reason="a loss", selected=None)
    whole, part = comparisons([make_record(), on(some), *singles, broken])
    assert list(whole.single_task) == list(part.single_task) == [0, 1]
    assert [task.key for task in whole.single_task[0].tasks] == some
    tuned = on(some, "STL", 0, overrides={"data.tasks": some, "train.lr": 0.1}, variant="stl@tuned")
    assert comparisons([make_record(), tuned])[0].single_task == {0: tuned}
    assert comparisons([make_record(), tuned, *singles])[0].single_task == {0: singles[0], 1: singles[1]}
    row = PlannedRow("STL", (("stl", {"train.lr": 0.1, "data.tasks": some}),))
    table = PlannedTable("scores", "Scores", (PlannedRow("EW", (("ew", {}),)), row))
    every = [make_record(), tuned, *singles]
    assert arranged(comparisons(every)[0], [table], every)[0].single_task == {0: tuned}  # the one that the study names
    default = make_record(method="STL")
    assert comparisons([tuned, *singles, default])[0].single_task == {0: default}
    assert comparisons([make_record()])[0].single_task == {}
