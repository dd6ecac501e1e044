"""Which epoch is reported: never by a score on test, never by one that is not a number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from record_factory import make_record
from synthetic_splits import random_splits

from bench.engine import epoch
from bench.engine.build import build_network
from bench.engine.context import RunContext
from bench.engine.evaluate import evaluate
from bench.engine.history import History
from bench.engine.loop import train
from bench.engine.selection import keep_best, selection, selection_score, task_scores, why_unselected
from bench.records.record import Record, Scores
from bench.records.store import CURVE
from bench.reporting.comparison import comparisons
from bench.reporting.planned import PlannedRow, PlannedTable, arranged
from bench.run import main
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS
from datasets.contract import DataError, DataSettings, Recipe, Splits

CPU = torch.device("cpu")
NAN = float("nan")


class Stop(Exception):
    """Ends a run after an epoch."""


def give(monkeypatch: pytest.MonkeyPatch, data: str, splits: Splits) -> None:
    monkeypatch.setitem(DATASETS, data, replace(DATASETS[data], read=lambda folder, settings: splits))


def spec_of(data: str, method: str = "ew", **assignments: Any) -> RunSpec:
    return resolve(data, method, assignments={"train.epochs": 3, "train.batch_size": 24, **assignments})


def run(spec: RunSpec, folder: Path, stop_after: int | None = None) -> Record:
    def on_epoch(epochs: int) -> None:
        if epochs == stop_after:
            raise Stop

    return train(spec, RunContext(folder, folder, CPU, 1), on_epoch)


# --- Scores that are not finite ---------------------------------------------------------------------------------------


def scores_of(spec: RunSpec, values: Iterable[float]) -> Scores:
    """Scores of digits on validation."""
    return {task: {"accuracy": value} for task, value in zip(spec.tasks, values, strict=True)}


def history_of(spec: RunSpec, epochs: Iterable[Iterable[float]]) -> History:
    """The history of a run whose tasks had these accuracies after its epochs."""
    history, network = History(), build_network(spec, CPU)
    for values in epochs:
        history.epochs += 1
        keep_best(history, network, spec, scores_of(spec, values), {})
    return history


@pytest.mark.parametrize(
    ("epochs", "best", "unscored"),
    [
        ([NAN, 0.3, 0.2], 2, 1),
        ([0.3, NAN, 0.4], 3, 1),
        ([0.3, NAN, NAN], 1, 2),
        ([math.inf, 0.1, 0.2], 3, 1),
        ([NAN, NAN, NAN], None, 3),
        ([0.3, 0.3, 0.2], 1, 0),
    ],
)
def test_a_score_that_is_not_finite_is_never_the_best(epochs: list[float], best: int | None, unscored: int) -> None:
    spec = spec_of("digits")
    history = history_of(spec, [[score, 0.5, 0.5, 0.5] for score in epochs])
    assert (history.best and history.best.epoch, history.unscored) == (best, unscored)
    assert (selection(history, spec) is None) == (best is None)


def test_a_task_without_a_score_does_not_hold_up_the_others() -> None:
    spec = spec_of("digits", "stl")
    history = history_of(spec, [[NAN, 0.1, 0.4, 0.2], [0.5, NAN, 0.3, 0.2], [0.4, 0.2, 0.2, 0.2]])
    assert history.best is None and history.unscored == 2
    assert [history.best_by_task[task].epoch for task in spec.tasks] == [2, 3, 1, 1]
    found = selection(history, spec)
    assert found is not None and found.network.keys() == build_network(spec, CPU).state_dict().keys()
    assert found.validation == scores_of(spec, [0.5, 0.2, 0.4, 0.2])
    assert found.selected.epoch == 3 and found.selected.score == pytest.approx(1.3 / 4)
    never = history_of(spec, [[0.5, NAN, 0.3, NAN]] * 2)
    assert selection(never, spec) is None
    assert why_unselected(never, spec) == "no epoch has a finite score on validation for inverted, noisy"


def test_the_score_is_the_mean_of_those_of_the_tasks() -> None:
    """Of log gains, worked out by hand: depth at half of the baseline's errors gains log 2."""
    info = DATASETS["rooms"]
    dummy = {task.key: {metric.key: 0.5 for metric in task.measure.metrics} for task in info.tasks}
    scores = {**dummy, "depth": {metric.key: 0.25 for metric in info.tasks[1].measure.metrics}}
    assert task_scores(info, scores, dummy) == pytest.approx([0, math.log(2), 0])
    assert selection_score(info, scores, dummy) == pytest.approx(math.log(2) / 3)


def without_depth(splits: Splits) -> Splits:
    """Validation without a labelled pixel in its depth maps: nothing to measure."""
    (source,) = splits.validation
    targets = {**source.targets, 1: torch.zeros_like(source.targets[1])}
    return replace(splits, validation=(replace(source, targets=targets),))


@pytest.mark.parametrize("method", ["ew", "stl"])
def test_a_run_without_any_score_has_diverged(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, "rooms", without_depth(random_splits(DATASETS["rooms"])))
    record = run(spec_of("rooms", method), tmp_path)
    assert record.status == "diverged" and record.selected is None and not record.test
    assert record.unscored_epochs == record.epochs == 3
    named = "in the last one, depth/absolute_error is nan" if method == "ew" else "for depth"
    assert record.reason.startswith("no epoch has a finite score on validation") and named in record.reason


@pytest.mark.parametrize("method", ["ew", "stl"])
def test_an_epoch_without_a_score_is_counted_also_across_a_resumption(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of three epochs has no score; the run stops after it."""
    give(monkeypatch, "digits", random_splits(DATASETS["digits"]))
    real = evaluate
    epochs: list[int] = []

    def spy(network: Any, info: Any, split: Any, device: Any) -> Scores:
        scores = real(network, info, split, device)
        epochs.append(1)
        return {task: {"accuracy": NAN} for task in scores} if len(epochs) == 1 else scores

    monkeypatch.setattr(epoch, "evaluate", spy)
    with pytest.raises(Stop):
        run(spec_of("digits", method), tmp_path, stop_after=1)
    record = run(spec_of("digits", method), tmp_path)
    assert record.status == "done" and record.selected is not None
    assert record.unscored_epochs == 1
    scores = pandas.read_csv(tmp_path / CURVE)["score"]
    assert math.isnan(scores[0])
    if method == "ew":
        assert record.selected.epoch == scores.idxmax() + 1 and record.selected.score == scores.max()
    assert all(one.epoch > 1 for one in record.selected_by_task.values())


def test_tables_name_epochs_without_a_score_and_rows_without_selection() -> None:
    rule = "none: no validation set, the mean of the last 10 epochs on test is reported"
    chosen = make_record().selected
    assert chosen is not None
    records = [
        make_record(method="EW", unscored_epochs=2),
        make_record(method="UW", validation={}, selected=chosen.model_copy(update={"rule": rule})),
        make_record(method="MGDA"),
    ]
    (found,) = comparisons(records)
    notes = {variant.method: variant.notes for variant in found.variants}
    assert notes == {
        "ew": ("epochs without a finite score on validation: seed 0 2 of 10",),
        "uw": ("not selected: no validation set, the mean of the last 10 epochs on test is reported",),
        "mgda": (),
    }


# --- Scores on test ---------------------------------------------------------------------------------------------------

# Another value than the default for every setting of these sections. A new setting needs one.
OTHER_SETTINGS: dict[str, Any] = {
    "data.image_size": [16, 16],
    "data.split_seed": 1,
    "data.split_per_seed": True,
    "data.protocol": "published",
    "data.augment": True,
    "data.metrics_batch": 4,
    "data.tasks": ["segmentation", "normal"],
    "data.train_share": 0.75,
    "train.epochs": 2,
    "train.batch_size": 12,
    "train.lr": 0.01,
    "train.weight_decay": 0.1,
    "train.lr_decay_every": 1,
    "train.lr_decay": 0.1,
    "train.cosines_every": 1,
    "train.accumulate": 2,
    "train.clip_norm": 1.0,
    "heads.rule": "plain",
}
WITHOUT_A_RUN = {"data.splits"}  # for data sets of the Office kind, where lists name each image once (test_split_lists)


def test_every_setting_of_data_and_training_is_tried() -> None:
    names = {
        f"{section}.{field.name}"
        for section, kind in (("data", DataSettings), ("train", Recipe))
        for field in fields(kind)
    }
    assert names == {name for name in OTHER_SETTINGS if not name.startswith("heads")} | WITHOUT_A_RUN


JOINING = ("train.cosines_every", "train.clip_norm")  # refused with single-task networks
ALONE = [{name: value} for name, value in OTHER_SETTINGS.items()]
TOGETHER = {name: value for name, value in OTHER_SETTINGS.items() if name != "train.accumulate"}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("ew", TOGETHER),
        ("stl", {name: value for name, value in TOGETHER.items() if name not in JOINING}),
        *(pytest.param("ew", settings, marks=pytest.mark.slow, id=next(iter(settings))) for settings in ALONE),
    ],
)
def test_no_setting_lets_the_selection_see_test(
    method: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that differ in their test images and labels alone select the same epoch by the same scores."""
    splits = random_splits(DATASETS["rooms"])
    (test,) = splits.test
    other = replace(test, images=255 - test.images, targets={t: v.flip(0) for t, v in test.targets.items()})
    spec = spec_of("rooms", method, **settings)
    found = []
    for name, test_split in {"one": (test,), "other": (other,)}.items():
        give(monkeypatch, "rooms", replace(splits, test=test_split))
        record = run(spec, tmp_path / name)
        curve = pandas.read_csv(tmp_path / name / CURVE).drop(columns="seconds")
        assert record.selected is not None
        found.append((record.selected, record.selected_by_task, record.validation, curve.to_csv(), record.test))
    assert found[0][:-1] == found[1][:-1]
    assert found[0][-1] != found[1][-1]


def test_test_is_evaluated_when_nothing_is_left_to_select(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a validation set, the last epoch is named and a mean over epochs is reported."""
    splits = random_splits(DATASETS["rooms"], validation=False)
    give(monkeypatch, "rooms", splits)
    record = run(spec_of("rooms", **{"data.protocol": "published"}), tmp_path)
    assert record.selected is not None and record.selected.epoch == record.epochs == 3
    assert record.selected.rule.startswith("none: no validation set") and not record.validation
    assert record.unscored_epochs == 0


@pytest.mark.parametrize("name", ["data.selection=test", "train.selection=test", "data.select_on=test"])
def test_the_command_line_has_no_such_setting(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(tmp_path), "--data-root", str(tmp_path)]
    assert main(["--method", "ew", "--data", "digits", "--set", name, "--dry-run", *where]) == 2
    assert "Unknown setting" in capsys.readouterr().err


def test_a_data_set_with_another_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="`selection` must be one of accuracy, gain, found 'test'"):
        replace(DATASETS["digits"], selection="test")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["the same source", "a copy", "one row"])
def test_test_images_are_refused_as_validation_images(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = random_splits(DATASETS["rooms"])
    (test,) = splits.test
    copy = replace(test, images=test.images.clone())
    row = replace(test, rows=torch.tensor([3]))
    validation = {"the same source": test, "a copy": copy, "one row": row}[how]
    give(monkeypatch, "rooms", replace(splits, validation=(validation,)))
    with pytest.raises(DataError, match=f"for test, found {1 if how == 'one row' else 8} in both; epochs would be"):
        run(spec_of("rooms"), tmp_path)


def test_rows_without_validation_are_not_chosen_by_their_test_scores() -> None:
    chosen = make_record().selected
    assert chosen is not None
    records = [
        make_record(
            variant=f"ew@{lr}",
            overrides={"train.lr": lr},
            validation={},
            selected=chosen.model_copy(update={"score": lr}),
        )
        for lr in (0.1, 0.3, 0.2)
    ]
    row = PlannedRow("EW", tuple(("ew", record.overrides) for record in records))
    (part,) = arranged(comparisons(records)[0], [PlannedTable("lr", "Rates", (row,))])
    assert part.variants[0].first.overrides == {"train.lr": 0.1}
    assert "of 3, the first one: without validation none is chosen" in part.variants[0].notes
