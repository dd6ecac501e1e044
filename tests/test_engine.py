"""Runs as a whole: repeatable to the bit, resumable, fair between methods, honest when they fail."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from synthetic_splits import random_splits
from threadpoolctl import threadpool_info, threadpool_limits

from bench.engine import epoch, loop
from bench.engine.batches import epoch_order, steps_per_epoch, training_batches
from bench.engine.build import build_network
from bench.engine.checkpoint import Origin, Start, start_or_resume
from bench.engine.context import RunContext
from bench.engine.evaluate import dummy_scores, evaluate, evaluate_items
from bench.engine.loop import train
from bench.engine.seeds import generator_for
from bench.engine.selection import selection_score
from bench.engine.train_state import make_train_state
from bench.records.record import Record
from bench.records.store import CHECKPOINT, CURVE, POSITIONS, RECORD, read_record
from bench.spec import versions
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS, find
from datasets.contract import DataSettings
from methods import METHODS

CPU = torch.device("cpu")
FEW = {"data.train_share": 0.25}


class Stop(Exception):
    """A crash in the middle of a run."""


def run(
    data_root: Path,
    folder: Path,
    method: str = "ew",
    data: str = "digits",
    stop_after: int | None = None,
    **settings: object,
) -> Record:
    spec = resolve(data, method, assignments={"train.epochs": 3, **FEW, **settings})
    source = find(data, data_root)
    assert source is not None

    def on_epoch(epochs: int) -> None:
        if epochs == stop_after:
            raise Stop

    return train(spec, RunContext(source, folder, CPU, 1), on_epoch)


def scores(record: Record) -> dict[str, object]:
    compared = ("test", "validation", "last_test", "selected", "positions", "solver_fallbacks", "steps", "reference")
    return {key: value for key, value in record.model_dump().items() if key in compared}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_repeats_to_the_bit_and_resumes_as_if_it_had_never_stopped(
    method: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"train.epochs": 2, "train.batch_size": 128}
    if method != "normal":  # random images for the other methods: files are read in the same way for all
        settings["train.batch_size"] = 12
        splits = random_splits(DATASETS["digits"])
        monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], read=lambda *_: splits))  # type: ignore[arg-type]
    first = run(data_root, tmp_path / "a", method, **settings)
    with pytest.raises(Stop):
        run(data_root, tmp_path / "b", method, stop_after=1, **settings)
    assert (tmp_path / "b" / CHECKPOINT).is_file() and not (tmp_path / "b" / RECORD).exists()
    resumed = run(data_root, tmp_path / "b", method, **settings)
    assert first.status == "done" and scores(first) == scores(resumed)
    for name in (CURVE, POSITIONS) if method == "normal" else (CURVE,):
        columns = [[line.split(",") for line in (tmp_path / x / name).read_text().splitlines()] for x in "ab"]
        for left, right in zip(*columns, strict=True):  # all but the seconds
            assert [c for i, c in enumerate(left) if columns[0][0][i] != "seconds"] == [
                c for i, c in enumerate(right) if columns[0][0][i] != "seconds"
            ]
    assert not (tmp_path / "b" / CHECKPOINT).exists()
    assert read_record(tmp_path / "b" / RECORD).status == "done"


@pytest.mark.parametrize(
    ("data", "method", "batch"),
    # Gradients of forty tasks take long, and those of four tasks repeat above.
    [
        pytest.param("rooms", "nash_mtl", 64, marks=pytest.mark.slow),
        ("faces", "uw", 512),
        pytest.param("faces", "nash_mtl", 512, marks=pytest.mark.slow),
    ],
)
def test_the_other_problems_repeat_to_the_bit(
    data: str, method: str, batch: int, data_root: Path, tmp_path: Path
) -> None:
    settings = {"train.epochs": 1, "train.batch_size": batch}
    first, second = (run(data_root, tmp_path / x, method, data, **settings) for x in "ab")
    assert first.status == "done" and scores(first) == scores(second)


def test_numpy_takes_as_many_threads_as_the_run(data_root: Path, tmp_path: Path) -> None:
    with threadpool_limits(2, user_api="blas"):
        run(data_root, tmp_path, **{"train.epochs": 1})
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_a_checkpoint_of_other_settings_is_not_resumed(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(data_root, tmp_path / "a", stop_after=2)
    fresh = run(data_root, tmp_path / "b", **{"train.lr": 1e-3})
    other = run(data_root, tmp_path / "a", **{"train.lr": 1e-3})
    assert scores(other) == scores(fresh)


def test_a_checkpoint_of_other_versions_is_not_resumed(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stop):
        run(data_root, tmp_path / "a", stop_after=2)
    path, spec = tmp_path / "a" / CHECKPOINT, resolve("digits", "ew", assignments={"train.epochs": 3, **FEW})
    content = torch.load(path, weights_only=True)
    seen, epoch_steps = content["fingerprint"], content["history"]["steps"] // 2

    def start() -> Start:
        return start_or_resume(
            path, Origin(spec, seen, CPU, 1, epoch_steps), lambda: make_train_state(spec, build_network(spec, CPU))
        )

    assert (start().history.epochs, start().notes) == (2, ())
    monkeypatch.setattr(versions, "ENGINE_VERSION", 2)
    again = start()
    assert again.history.epochs == 0 and "it was made by another version of the code" in again.notes[0]
    assert "kept as checkpoint.pt.other" in again.notes[0] and path.with_name("checkpoint.pt.other").is_file()


def test_field_evaluations_are_recorded_for_every_flow(data_root: Path, tmp_path: Path) -> None:
    settings = {"train.epochs": 1, "train.batch_size": 128}
    at_start = {"arch.initial_positions": [0.0], "arch.position_form": "constant"}  # z(0) needs no evaluation
    found = run(data_root, tmp_path / "a", "normal", **settings, **at_start).field_evaluations
    assert found is not None and (found.forward, found.backward) == (0, 0)
    assert run(data_root, tmp_path / "b", "ew", **settings).field_evaluations is None


def test_every_method_starts_from_the_same_network_and_batches(data_root: Path) -> None:
    def start(method: str) -> tuple[RunSpec, dict[str, torch.Tensor]]:
        spec = resolve("digits", method, seed=5)
        state = build_network(spec, CPU).state_dict()
        return spec, {name: value for name, value in state.items() if name.startswith(("encoder", "heads"))}

    _, reference = start("ew")
    for method in METHODS:
        _, state = start(method)
        # Single-task networks have an encoder for each task.
        shared = {name: re.sub(r"^encoder\.\d+", "encoder", name) if method == "stl" else name for name in state}
        assert {*shared.values()} == reference.keys()
        assert all(torch.equal(values, reference[shared[name]]) for name, values in state.items()), method
    _, other = (None, build_network(resolve("digits", "ew", seed=6), CPU).state_dict())
    assert not torch.equal(other["heads.0.weight"], reference["heads.0.weight"])


def test_short_sources_repeat(data_root: Path) -> None:
    folder = find("digits", data_root)
    assert folder is not None
    info = DATASETS["digits"]
    splits = info.read(folder, DataSettings(None))
    assert steps_per_epoch(splits.train, 64) == 2148 // 64
    batches = list(training_batches(splits.train, info, 2147, generator_for(0, "x"), CPU))
    assert len(batches) == 1 and [len(group.inputs) for group in batches[0]] == [2147] * 4
    order = epoch_order(5, 12, generator_for(0, "x")).tolist()
    assert sorted(order[:5]) == sorted(order[5:10]) == list(range(5)) and len(order) == 12


def test_a_diverged_run_says_where(data_root: Path, tmp_path: Path) -> None:
    record = run(data_root, tmp_path / "a", **{"train.lr": 1e30})
    assert record.status == "diverged"
    assert "of task plain is " in record.reason and " at step " in record.reason
    assert read_record(tmp_path / "a" / RECORD) == record and not record.test


def test_a_runaway_position_is_a_diverged_run(data_root: Path, tmp_path: Path) -> None:
    record = run(data_root, tmp_path / "a", "normal", **{"arch.eta_ratio": 1e6})
    assert record.status == "diverged" and record.reason.startswith("position of task ")
    assert record.steps < 12


def test_selection_looks_at_validation_only(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test split is read after the last epoch, and the epoch reported is the best of the validation curve."""
    seen: list[tuple[str, int]] = []

    def spying(real):  # type: ignore[no-untyped-def]
        def spy(network, info, split, device):  # type: ignore[no-untyped-def]
            seen.append(("validation" if len(split[0]) == 710 else "test", len(seen)))
            return real(network, info, split, device)

        return spy

    monkeypatch.setattr(epoch, "evaluate", spying(evaluate))
    for real in (evaluate, evaluate_items):
        monkeypatch.setattr(loop, real.__name__, spying(real))
    record = run(data_root, tmp_path / "a", **{"train.epochs": 6})
    assert [part for part, _ in seen] == ["validation"] * 6 + ["test"] * 2
    header, *rows = [line.split(",") for line in (tmp_path / "a" / CURVE).read_text().splitlines()]
    curve = [float(row[header.index("score")]) for row in rows]
    assert record.selected is not None
    assert record.selected.epoch == curve.index(max(curve)) + 1 and record.selected.score == max(curve)


@pytest.mark.slow
def test_without_validation_the_mean_of_the_last_epochs_is_reported(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published protocol of NYUv2: test is evaluated in the last epochs only, also in a resumed run."""
    monkeypatch.setattr(epoch, "AVERAGED_EPOCHS", 2)
    seen: list[dict[str, dict[str, float]]] = []

    def spy(*arguments: object) -> object:
        seen.append(evaluate(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(epoch, "evaluate", spy)
    settings = {"data.protocol": "published", "train.batch_size": 64}
    with pytest.raises(Stop):
        run(data_root, tmp_path / "a", data="rooms", stop_after=2, **settings)
    record = run(data_root, tmp_path / "a", data="rooms", **settings)
    assert len(seen) == 2 and record.last_test == seen[1] and not record.validation
    for task, scores_of_task in record.test.items():
        for key, value in scores_of_task.items():
            assert value == pytest.approx((seen[0][task][key] + seen[1][task][key]) / 2)
    assert record.selected is not None and "mean of the last 2 epochs" in record.selected.rule
    assert record.splits["counts"]["validation"] == 0 and record.epochs == 3


def test_the_record_is_complete(data_root: Path, tmp_path: Path) -> None:
    record = run(data_root, tmp_path / "a", "normal", **{"train.epochs": 4})
    assert record.parameters is not None and record.parameters.positions == 4
    assert record.parameters.heads == 4 * (32 * 10 + 10)
    assert record.step_seconds is not None and record.step_seconds.steps == record.steps - record.step_seconds.warmup
    assert record.settings["arch"]["step_size"] == 0.25 and record.overrides == {"train.epochs": 4, **FEW}
    assert set(record.positions) == {"plain", "inverted", "outline", "noisy"}
    assert record.splits["counts"]["test"]["plain"] == 736
    assert {"torch", "python", "cpu", "device", "threads", "commit"} <= set(record.environment)
    if record.peak_memory_mib is not None:
        assert record.idle_memory_mib is not None and 0 < record.idle_memory_mib < record.peak_memory_mib
    assert str(Path.home()) not in json.dumps(record.model_dump())


@pytest.mark.parametrize("data", ["digits", "rooms", "faces"])
def test_the_dummy_baseline_has_zero_gain(data: str, data_root: Path) -> None:
    info, folder = DATASETS[data], find(data, data_root)
    assert folder is not None
    splits = info.read(folder, DataSettings(info.image_size))
    dummy = dummy_scores(info, splits.train, splits.test)
    if info.selection == "gain":
        assert selection_score(info, dummy, dummy) == 0.0
    assert set(dummy) == {task.key for task in info.tasks}
