"""The order in which runs start: the longest first, so that no long run is left over when the others have ended."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.records.record import Record
from bench.spec.data_seen import CurrentData
from bench.spec.resolve import RunSpec


@dataclass(frozen=True)
class ExpectedRun:
    """A run that is to be trained.

    seconds: that it may take, by finished runs of the same data set; None if there are none.
    work: images that it reads in training × its tasks; where the size of the data is not known, that of one image.
    """

    spec: RunSpec
    seconds: float | None
    work: float


def longest_first(specs: Sequence[RunSpec], kept: Iterable[Record], current: CurrentData) -> list[ExpectedRun]:
    """Runs by their expected seconds; equal ones stay in their order.

    Seconds of an epoch are the median over finished runs of the same variant, else of the same method on as many tasks.
    A method without any takes as long for each task as the other finished runs of the data set. A data set without any
    takes as long for each image and task as the other data sets.
    """
    pace = _Pace([record for record in kept if record.status == "done" and record.epochs and record.seconds])
    expected = [ExpectedRun(spec, pace.seconds(spec), _work(spec, current)) for spec in specs]
    rate = _median([run.seconds / run.work for run in expected if run.seconds]) or 1.0
    return sorted(expected, key=lambda run: -(run.work * rate if run.seconds is None else run.seconds))


def _work(spec: RunSpec, current: CurrentData) -> float:
    seen = current.of(spec)
    return spec.settings.train.epochs * (seen.training if seen and seen.training else 1) * len(spec.tasks)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


class _Pace:
    """Seconds of an epoch, and of an epoch and task, by finished runs."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._of_variant = _medians(records, lambda run: (run.data, run.variant), lambda run: run.seconds / run.epochs)
        self._of_method = _medians(
            records, lambda run: (run.data, run.method, len(run.tasks)), lambda run: run.seconds / run.epochs
        )
        # Of each task, since other runs may have other tasks of the same data.
        self._of_data = _medians(records, lambda run: run.data, lambda run: run.seconds / run.epochs / len(run.tasks))

    def seconds(self, spec: RunSpec) -> float | None:
        """That a run may take; None if no run of its data set is finished."""
        epochs = spec.settings.train.epochs
        own = self._of_variant.get((spec.data, spec.variant))
        alike = self._of_method.get((spec.data, spec.method, len(spec.tasks))) if own is None else own
        if alike is not None:
            return epochs * alike
        each = self._of_data.get(spec.data)
        return None if each is None else epochs * each * len(spec.tasks)


def _medians(
    records: Iterable[Record], key: Callable[[Record], Hashable], value: Callable[[Record], float]
) -> Mapping[Hashable, float]:
    groups: dict[Hashable, list[float]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(value(record))
    return {name: statistics.median(values) for name, values in groups.items()}
