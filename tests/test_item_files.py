"""Outcomes per test item beside a record: they come back as they were, and what is wrong with a file is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from record_factory import DIGITS, ROOMS, make_record, make_unfinished
from safetensors.numpy import load, save

from bench.records.items import ITEMS, ItemsError, read_items, write_items
from bench.records.record import Record
from bench.records.store import write_record

N = 13  # not a multiple of the eight bits of a byte


def outcomes(data: str) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(0)
    if data == "digits":
        return {task.key: generator.random(N) < 0.7 for task in DIGITS}
    scores = {task.key: generator.random((N, len(task.metrics)), np.float32) for task in ROOMS}
    scores["depth"][3] = np.nan  # an image without any measured pixel
    return scores


def written_run(folder: Path, data: str) -> tuple[dict[str, NDArray[Any]], Record]:
    """A run with outcomes per item, as the engine writes it."""
    items, record = outcomes(data), make_record(data)
    columns = {task.key: [metric.key for metric in task.metrics] for task in record.tasks}
    folder = folder / data / record.variant / "seed-0"
    digest = write_items(folder, items, columns)
    changes: dict[str, Any] = {"items": digest, "splits": {"counts": {"test": N}}}
    if data == "digits":
        changes["test"] = {task: {"accuracy": int(correct.sum()) / N} for task, correct in items.items()}
        changes["splits"] = {"counts": {"test": dict.fromkeys(items, N)}}
    record = Record.model_validate({**record.model_dump(), **changes})
    write_record(folder, record)
    return items, record


def folder_of(root: Path, record: Record) -> Path:
    return root / record.data / record.variant / "seed-0"


@pytest.mark.parametrize("data", ["digits", "rooms"])
def test_outcomes_come_back_as_they_were(data: str, tmp_path: Path) -> None:
    items, record = written_run(tmp_path, data)
    for found in (read_items(folder_of(tmp_path, record)), read_items(folder_of(tmp_path, record), record)):
        assert list(found) == [task.key for task in record.tasks]
        for task, values in found.items():
            assert values.dtype == items[task].dtype
            np.testing.assert_array_equal(values, items[task])


def test_correctness_takes_a_bit_per_item(tmp_path: Path) -> None:
    items = {"many": np.ones(80_000, dtype=bool)}
    write_items(tmp_path, items, {"many": ["accuracy"]})
    assert (tmp_path / ITEMS).stat().st_size < 80_000 / 8 + 200


def test_the_same_outcomes_are_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        written_run(tmp_path / folder, "rooms")
    one, other = sorted(tmp_path.rglob(ITEMS))
    assert one.read_bytes() == other.read_bytes()


def rewritten(path: Path, change: Callable[[dict[str, NDArray[Any]], dict[str, Any]], None]) -> bytes:
    """The content of a file after a change of its arrays and of what its metadata say."""
    content = path.read_bytes()
    arrays = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    about = json.loads(header["__metadata__"]["items"])
    change(arrays, about)
    return save(arrays, {"items": json.dumps(about)})


def first_flipped(arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    arrays["plain"] = arrays["plain"] ^ np.uint8(128)


def one_fewer(arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    about["plain"]["bits"] -= 1


def task_lost(arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    del arrays["plain"]


def of_another_metric(arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    about["plain"]["columns"] = ["f1"]


def negative(arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    arrays["plain"], about["plain"]["bits"] = np.zeros(0, np.uint8), -3


def truth(arrays: dict[str, NDArray[Any]], about: dict[str, Any]) -> None:
    """True is a whole number to Python, but not to numpy."""
    arrays["plain"], about["plain"]["bits"] = arrays["plain"][:1], True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (first_flipped, "expected items of plain with the mean"),
        (one_fewer, "expected 13 items of plain, found 12"),
        (task_lost, "expected the tasks of its record, found others"),
        (of_another_metric, "expected packed bits or a float32 column per metric for plain, found others"),
        (truth, "expected packed bits or a float32 column per metric for plain, found others"),
        (negative, "expected packed bits or a float32 column per metric for plain, found others"),
    ],
)
def test_a_file_that_contradicts_its_record_is_named(change: Any, words: str, tmp_path: Path) -> None:
    _, record = written_run(tmp_path, "digits")
    path = folder_of(tmp_path, record) / ITEMS
    path.write_bytes(rewritten(path, change))
    with pytest.raises(ItemsError, match="expected the file with the digest"):
        read_items(path.parent)
    # Someone who renews the digest as well is told what doesn't fit.
    renewed = record.model_copy(update={"items": _digest(path)})
    with pytest.raises(ItemsError, match=words) as error:
        read_items(path.parent, renewed)
    assert str(error.value).startswith(f"{path}: expected ") and "\n" not in str(error.value)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}", save({"plain": np.zeros(2)})])
def test_other_files_are_named_whatever_their_digest(content: bytes, tmp_path: Path) -> None:
    _, record = written_run(tmp_path, "digits")
    path = folder_of(tmp_path, record) / ITEMS
    path.write_bytes(content)
    with pytest.raises(ItemsError, match=r"expected outcomes per item in safetensors, found|expected the tasks"):
        read_items(path.parent, record.model_copy(update={"items": _digest(path)}))


def test_files_that_are_missing_or_of_another_run_are_named(tmp_path: Path) -> None:
    _, record = written_run(tmp_path, "digits")
    path = folder_of(tmp_path, record) / ITEMS
    path.unlink()
    with pytest.raises(ItemsError, match="expected a file, found none"):
        read_items(path.parent)
    write_items(path.parent, {"plain": np.ones(3, dtype=bool)}, {"plain": ["accuracy"]})
    with pytest.raises(ItemsError, match=f"expected the file with the digest {record.items} of its record, found"):
        read_items(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(ItemsError, match="expected a file, found a folder"):
        read_items(path.parent)


def test_runs_without_outcomes_have_none(tmp_path: Path) -> None:
    for record in (make_record(), make_unfinished("diverged", "loss of task plain is inf", seed=1)):
        folder = tmp_path / record.data / record.variant / f"seed-{record.seed}"
        write_record(folder, record)
        assert read_items(folder) == {}
    assert read_items(tmp_path / "digits" / "ew" / "seed-7") == {}


def test_what_an_earlier_attempt_has_left_is_removed(tmp_path: Path) -> None:
    written_run(tmp_path, "digits")
    folder = next(tmp_path.rglob(ITEMS)).parent
    assert write_items(folder, {}, {}) == ""
    assert not (folder / ITEMS).exists()
    assert write_items(folder, {}, {}) == ""
