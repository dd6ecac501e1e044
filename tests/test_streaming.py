"""Batches on an accelerator: the CPU's numbers, at most one copy a step, no waits, and a reader that is ahead."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from cases import for_every
from pretend.counts import counting
from pretend.device import DEVICE, available
from training import splits_of

from bench.engine import placement, streaming
from bench.engine.batches import evaluation_batches, steps_per_epoch, training_batches
from bench.engine.build import build_network
from bench.engine.device import read_at_once
from bench.engine.evaluate import evaluate, evaluate_items
from bench.engine.placement import on_device
from bench.engine.seeds import generator_for
from bench.engine.streaming import AHEAD, bytes_of, read_ahead, tensors_in
from bench.spec.resolve import resolve
from datasets import DATASETS
from datasets.contract import Batch, DatasetInfo, Source, Split, Splits

CPU = torch.device("cpu")
SECONDS = 10  # after which a thread counts as stuck
PROBLEMS = ("digits", "rooms", "faces")
# The data of a split: all on the device, all in main memory, or some of both.
PLACES = ("resident", "streamed", "mixed")
BATCH = 16


@pytest.fixture(autouse=True)
def pretend_accelerator() -> Iterator[None]:
    with available():
        yield


def placed(split: Split, where: str, monkeypatch: pytest.MonkeyPatch) -> Split:
    """The split as `on_device` leaves it if the device has room for all, none, or only the second of its sources."""
    fits = {"resident": [True] * len(split), "streamed": [False] * len(split), "mixed": [False, True] * len(split)}
    monkeypatch.setattr(placement, "fitting", lambda sizes, room: fits[where][: len(sizes)])
    there = on_device(Splits(split, (), (), {}), DEVICE).train
    assert [source.images.device.type == DEVICE.type for source in there] == fits[where][: len(split)]
    return there


def first_images(split: Split) -> Split:
    """The split with few images, so that an epoch is short."""
    few = 5 * BATCH - 3
    return tuple(
        Source(source.images, source.targets, source.rows_at(torch.arange(min(few, len(source))))) for source in split
    )


def epoch(
    split: Split, info: DatasetInfo, device: torch.device, augment: bool = False, first: int = 0
) -> Iterator[Batch]:
    return training_batches(split, info, BATCH, generator_for(0, "x"), device, augment, first=first)


def assert_same(batch: Batch, on_cpu: Batch) -> None:
    """Bits, dtypes, memory layout and the order of tasks."""
    for there, here in zip(batch, on_cpu, strict=True):
        assert list(there.targets) == list(here.targets)
        pairs = zip((there.inputs, *there.targets.values()), (here.inputs, *here.targets.values()), strict=True)
        for other, tensor in pairs:
            assert other.device.type == DEVICE.type and other.dtype == tensor.dtype
            assert other.stride() == tensor.stride() and torch.equal(other.cpu(), tensor)


def attributes(tasks: int, count: int = 70) -> Source:
    """A source with this many binary tasks, and one with a label in a byte."""
    drawn = torch.Generator().manual_seed(tasks)
    images = torch.randint(256, (count, 5, 7, 3), dtype=torch.uint8, generator=drawn)
    binary = torch.randint(2, (tasks, count), dtype=torch.uint8, generator=drawn)
    labels = torch.randint(-1, 9, (count,), dtype=torch.int8, generator=drawn)
    return Source(images, {tasks: labels, **dict(enumerate(binary))}, torch.randperm(count, generator=drawn)[:-1])


@for_every("name", PROBLEMS)
@for_every("augment", [False, True])
@for_every("where", PLACES)
def test_batches_are_those_of_a_cpu(
    name: str, augment: bool, where: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(name, "ew")
    split = first_images(splits_of(spec, data_root).train)
    # All at once, so that a buffer that is filled again too early would show.
    batches = list(epoch(placed(split, where, monkeypatch), spec.info, DEVICE, augment))
    for batch, on_cpu in zip(batches, epoch(split, spec.info, CPU, augment), strict=True):
        assert_same(batch, on_cpu)


@for_every("name", PROBLEMS)
@for_every("augment", [False, True])
@for_every("where", PLACES)
def test_a_step_copies_once_or_never_and_does_not_wait(
    name: str, augment: bool, where: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(name, "ew")
    split = placed(first_images(splits_of(spec, data_root).train), where, monkeypatch)
    with counting() as whole:
        batches = epoch(split, spec.info, DEVICE, augment)
        next(batches)
        with counting() as counts:
            steps = sum(1 for _ in batches)
    assert steps == steps_per_epoch(split, BATCH) - 1 > 2
    per_step = 0 if all(source.images.device.type == DEVICE.type for source in split) else 1
    assert counts().copies_in == per_step * steps, counts()
    # Before the first step: the normalisation, the order of resident images, the views.
    assert whole().copies_in - counts().copies_in <= per_step + 2 + augment, whole()
    assert whole().waits == whole().copies_out == 0, whole()


@for_every("name", ["digits", "rooms"])
@for_every("where", PLACES)
def test_an_epoch_goes_on_with_the_batches_that_are_left_and_gathers_no_others(
    name: str, where: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(name, "ew")
    split = placed(first_images(splits_of(spec, data_root).train), where, monkeypatch)
    with counting() as whole:
        batches = list(epoch(split, spec.info, DEVICE, augment=True))
    with counting() as part:
        rest = list(epoch(split, spec.info, DEVICE, augment=True, first=2))
    for found, expected in zip(rest, batches[2:], strict=True):
        assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(found, expected, strict=True))
    per_step = 0 if all(source.images.device.type == DEVICE.type for source in split) else 1
    assert whole().copies_in - part().copies_in == 2 * per_step
    assert not list(epoch(split, spec.info, DEVICE, augment=True, first=len(batches)))


@for_every("where", ["resident", "streamed"])
def test_forty_tasks_cost_as_many_operations_as_one(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = []
    for tasks in (1, 40):
        split = placed((attributes(tasks),), where, monkeypatch)
        with counting() as counts:
            batches = list(epoch(split, DATASETS["celeba"], DEVICE))
        operations.append(counts().operations)
        assert counts().waits == 0
        for batch, on_cpu in zip(batches, epoch((attributes(tasks),), DATASETS["celeba"], CPU), strict=True):
            assert_same(batch, on_cpu)
    # Bringing the targets of a resident source together takes one for each, once an epoch.
    assert operations[1] - operations[0] <= (1 if where == "resident" else 0)


@for_every("name", PROBLEMS)
@for_every("where", ["resident", "streamed"])
def test_an_evaluation_reads_from_the_device_once(
    name: str, where: str, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(name, "ew")
    split = first_images(splits_of(spec, data_root).validation)
    there = placed(split, where, monkeypatch)
    monkeypatch.setattr("bench.engine.evaluate.EVALUATION_BATCH", 32)
    expected = evaluate(build_network(spec, CPU), spec.info, split, CPU)
    network = build_network(spec, DEVICE)
    with counting() as counts:
        scores = evaluate(network, spec.info, there, DEVICE)
    assert counts().waits == counts().copies_out == 1, counts()
    with counting() as with_items:
        assert evaluate_items(network, spec.info, there, DEVICE)[0] == scores
    assert with_items().waits == with_items().copies_out == 1, with_items()
    for task, values in expected.items():
        # Sums over pixels may differ by rounding; see datasets.metrics.
        assert scores[task] == (pytest.approx(values, rel=1e-13, abs=0) if task == "depth" else values)


def test_evaluation_batches_may_end_with_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for where in ("resident", "streamed"):
        (source,) = placed((attributes(3),), where, monkeypatch)
        on_cpu = evaluation_batches(attributes(3), DATASETS["celeba"], 32, CPU)
        for there, here in zip(evaluation_batches(source, DATASETS["celeba"], 32, DEVICE), on_cpu, strict=True):
            assert_same([there], [here])


def test_tensors_are_read_at_once_as_they_are() -> None:
    drawn = torch.Generator().manual_seed(0)
    tensors = [
        torch.tensor(3, dtype=torch.int64),
        torch.rand((2, 3), generator=drawn) > 0.5,
        torch.rand(5, generator=drawn),
        torch.rand((2, 1, 2), generator=drawn, dtype=torch.float64),
        torch.tensor([], dtype=torch.float32),
        torch.tensor(2**53 + 1),
    ]
    mixed = [tensor.to(DEVICE) if index else tensor for index, tensor in enumerate(tensors)]
    with counting() as counts:
        read = read_at_once(mixed)
    assert counts().waits == counts().copies_out == 1
    for one, other in zip(read, tensors, strict=True):
        assert one.device == CPU and one.dtype == other.dtype and torch.equal(one, other)
    assert read_at_once([]) == []


@for_every(
    "forms",
    [
        [],
        [(torch.uint8, (3,)), (torch.float32, (2, 2)), (torch.int64, (5,))],
        [
            (torch.float64, (7, 1, 3)),
            (torch.bool, (65,)),
            (torch.uint8, (1, 64)),
            (torch.int16, (3, 0)),
            (torch.int8, ()),
        ],
    ],
)
def test_tensors_in_a_buffer_are_aligned_and_apart(forms: list[streaming.Form]) -> None:
    buffer = torch.zeros(bytes_of(forms), dtype=torch.uint8)
    views = tensors_in(buffer, forms)
    assert [(view.dtype, tuple(view.shape)) for view in views] == forms
    assert all((view.data_ptr() - buffer.data_ptr()) % view.element_size() == 0 for view in views if view.numel())
    for number, view in enumerate(views, 1):
        assert not view.any()  # no other has written here
        view.fill_(number)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def assert_no_reader_is_left() -> None:
    for thread in readers():
        thread.join(SECONDS)
    assert not readers()


def identities(count: int) -> Iterator[Callable[[], int]]:
    return (partial(int, number) for number in range(count))


@for_every("count", [0, 1, AHEAD, AHEAD + 1, 20])
def test_results_come_in_order(count: int) -> None:
    assert list(read_ahead(identities(count))) == list(range(count))
    assert_no_reader_is_left()


def test_the_reader_is_ahead_and_stops_there() -> None:
    """While the trainer does nothing, AHEAD more results are read, and none beyond."""
    count, started = 10, [threading.Event() for _ in range(10)]
    assert AHEAD > 0

    def read(number: int) -> int:
        started[number].set()
        return number

    for number in read_ahead(partial(read, number) for number in range(count)):
        assert started[min(number + AHEAD, count - 1)].wait(SECONDS)
        assert sum(event.is_set() for event in started) == min(number + 1 + AHEAD, count)


def test_the_trainer_does_not_wait_for_results_that_it_needs_later() -> None:
    gate = threading.Event()

    def read(number: int) -> int:
        assert number == 0 or gate.wait(SECONDS)
        return number

    results = read_ahead(partial(read, number) for number in range(5))
    assert next(results) == 0  # the second is still being read
    gate.set()
    assert list(results) == [1, 2, 3, 4]


def test_batches_in_main_memory_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = threading.Semaphore(0)
    fill = streaming._filled

    def noted(*arguments: object) -> object:
        buffer, forms = fill(*arguments)  # type: ignore[arg-type]
        assert buffer.is_pinned()  # else it would be copied once more
        filled.release()
        return buffer, forms

    monkeypatch.setattr(streaming, "_filled", noted)
    batches = epoch((attributes(2),), DATASETS["celeba"], DEVICE)
    next(batches)
    for _ in range(1 + AHEAD):
        assert filled.acquire(timeout=SECONDS)
    assert readers()
    batches.close()  # type: ignore[attr-defined]
    assert_no_reader_is_left()


@for_every("error", [OSError("the disk is gone"), MemoryError(), KeyboardInterrupt()])
def test_an_error_of_the_reader_is_raised_in_its_place(error: BaseException) -> None:
    def fail() -> int:
        raise error

    results = read_ahead([*identities(3), fail, *identities(9)])
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    try:
        next(results)
    except BaseException as raised:
        assert raised is error
    else:
        pytest.fail("no error")
    assert_no_reader_is_left()


class Stop(Exception):
    """An error of the trainer."""


@for_every("error", [Stop, KeyboardInterrupt])
def test_the_reader_ends_if_the_trainer_fails(error: type[BaseException]) -> None:
    def train() -> None:
        for number in read_ahead(identities(1000)):
            if number == 5:
                raise error

    with pytest.raises(error):
        train()
    assert_no_reader_is_left()


def test_the_reader_ends_if_it_is_dropped() -> None:
    results = read_ahead(identities(1000))
    next(results)
    del results
    assert_no_reader_is_left()


def test_the_trainer_can_be_interrupted_while_it_waits_for_the_reader() -> None:
    gate = threading.Event()

    def slow() -> bool:
        _thread.interrupt_main()
        return gate.wait(SECONDS)

    results = read_ahead([slow] * 5)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(results)
        assert not gate.is_set() and len(readers()) == 1  # still reading; nobody waits for it
    finally:
        gate.set()
    assert_no_reader_is_left()
