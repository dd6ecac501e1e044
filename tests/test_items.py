"""Outcomes per test item of real runs: those of the reported scores, kept through resuming, the same on any device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import for_every
from pretend.device import DEVICE, available
from synthetic_splits import random_splits
from training import splits_of

from bench.engine.build import build_network
from bench.engine.context import RunContext
from bench.engine.evaluate import evaluate, evaluate_items
from bench.engine.loop import train
from bench.records.items import ITEMS, read_items, write_items
from bench.records.record import Record
from bench.records.store import read_record
from bench.spec.resolve import resolve
from datasets import DATASETS

CPU = torch.device("cpu")
EMBEDDED = [name for name, info in DATASETS.items() if info.make is not None]


class Stop(Exception):
    """A crash in the middle of a run."""


def trained(data: str, folder: Path, device: torch.device = CPU, stop_after: int = 0, **settings: object) -> Record:
    """The record of a run of two epochs on a few random images."""
    few = {"train.epochs": 2, "train.batch_size": 4, "backbone.weights": "none"}
    splits = random_splits(DATASETS[data], validation=settings.get("data.protocol") != "published")

    def on_epoch(epochs: int) -> None:
        if epochs and epochs == stop_after:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, data, replace(DATASETS[data], read=lambda *_: splits))  # type: ignore[misc]
        spec = resolve(data, "ew", assignments={**few, **settings})
        return train(spec, RunContext(folder, folder, device, 1), on_epoch)


@pytest.mark.parametrize("data", EMBEDDED)
def test_the_items_of_the_embedded_problems_are_those_of_their_scores(data: str, data_root: Path) -> None:
    """The mean of correct items is the recorded accuracy, counted exactly."""
    spec = resolve(data, "ew")
    network, test = build_network(spec, CPU), splits_of(spec, data_root).test
    scores, items = evaluate_items(network, spec.info, test, CPU)
    assert scores == evaluate(network, spec.info, test, CPU)
    assert list(items) == [task.key for task in spec.info.tasks]
    sizes = {task: len(source) for source in test for task in source.targets}
    for index, task in enumerate(spec.info.tasks):
        values, score = items[task.key], scores[task.key]
        assert len(values) == sizes[index]
        if values.dtype == np.bool_:
            wrong, count = int((~values).sum()), len(values)
            # ATTRIBUTE subtracts the share of errors from 1, which rounds in another way.
            assert score["accuracy"] in ((count - wrong) / count, 1 - wrong / count)
            assert round(score["accuracy"] * count) == values.sum()
        else:
            assert values.dtype == np.float32 and values.shape == (sizes[index], len(task.measure.metrics))
            first = np.array(list(_of_the_first_image(network, spec.info, test, index).values()), dtype=np.float32)
            np.testing.assert_allclose(values[0], first, rtol=1e-5)


def _of_the_first_image(network, info, test, task):  # type: ignore[no-untyped-def]
    """The scores of a split with one image."""
    source = test[0]
    one = replace(source, rows=source.rows_at(torch.arange(1)))
    return evaluate(network, info, (one,), CPU)[info.tasks[task].key]


@for_every("data", ["digits", "rooms", "faces"])
def test_a_run_has_the_items_of_its_selected_epoch_also_if_resumed(data: str, tmp_path: Path) -> None:
    folder = tmp_path / data
    record = trained(data, folder / "whole")
    assert read_record(folder / "whole" / "record.json") == record
    for task, values in read_items(folder / "whole", record).items():
        if values.dtype == np.bool_:
            assert values.mean() == pytest.approx(record.test[task]["accuracy"], rel=1e-15, abs=0)
    with pytest.raises(Stop):
        trained(data, folder / "resumed", stop_after=1)
    assert not (folder / "resumed" / ITEMS).exists()
    resumed = trained(data, folder / "resumed")
    assert resumed.items == record.items != ""
    assert (folder / "resumed" / ITEMS).read_bytes() == (folder / "whole" / ITEMS).read_bytes()


@for_every("data", ["digits", "rooms", "faces"])
@pytest.mark.slow
def test_the_items_of_an_accelerator_are_those_of_the_cpu(data: str, tmp_path: Path) -> None:
    here = trained(data, tmp_path / data / "cpu")
    with available():
        there = trained(data, tmp_path / data / "device", DEVICE)
    expected, found = read_items(tmp_path / data / "cpu", here), read_items(tmp_path / data / "device", there)
    assert list(found) == list(expected)
    for task, values in found.items():
        np.testing.assert_allclose(values, expected[task], rtol=1e-6)


@pytest.mark.slow
def test_runs_without_a_selected_epoch_have_no_items(tmp_path: Path) -> None:
    """Diverged runs have none, and none of an earlier attempt; nor have those that report the mean of several."""
    write_items(tmp_path / "diverged", {"plain": np.ones(3, dtype=bool)}, {"plain": ["accuracy"]})
    diverged = trained("digits", tmp_path / "diverged", **{"train.lr": 1e30})
    assert diverged.status == "diverged"
    published = trained("nyuv2", tmp_path / "published", **{"data.protocol": "published"})
    assert published.status == "done"
    for record, name in ((diverged, "diverged"), (published, "published")):
        assert record.items == "" and not (tmp_path / name / ITEMS).exists()
        assert read_items(tmp_path / name, record) == {}
