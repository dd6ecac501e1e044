"""The runs of a request in shards: each run is in exactly one, whatever is already finished.

So several machines can share a request without talking to each other. A frozen twin needs all seeds of its source, and
is in the same shard as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

from bench.spec.planning import Plan
from bench.spec.resolve import RunKey, RunSpec
from bench.spec.twins import FROZEN
from methods.contract import batches_of

# A run, or the data set and variant of a source, for all its seeds and their twins.
Unit = RunKey | str


@dataclass(frozen=True)
class Shard:
    """One of `count` shards; index counts from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Division:
    """Which shard trains what.

    sources: data sets and variants of runs with frozen twins.
    shards: index of the shard of each unit.
    runs: how many there are.
    """

    sources: frozenset[str]
    shards: Mapping[Unit, int]
    runs: int

    def shard_of(self, spec: RunSpec) -> int | None:
        """The index of its shard; None of a data set that was found after the runs were divided."""
        return self.shards.get(_unit(spec, self.sources))


def divide(runs: Sequence[RunSpec], count: int) -> Division:
    """Divides runs so that the shards have about the same cost on each data set.

    The most expensive units are dealt first, each to the shard that has least of this data set, and of these to the one
    with the fewest runs of it. Every data set begins with another shard, so that small ones are spread. Where the runs
    of one go doesn't depend on which others there are: with `--data all`, some may be found later.

    runs: all of a request, finished or not, twins with provisional weights.
    """
    own = {_row_name(spec) for spec in runs if not _source(spec)}
    sources = frozenset(_source(spec) for spec in runs) & own
    units: dict[Unit, list[RunSpec]] = defaultdict(list)
    for spec in runs:
        units[_unit(spec, sources)].append(spec)
    costs = {unit: sum(map(cost, members)) for unit, members in units.items()}
    loads: dict[str, list[int]] = defaultdict(lambda: [0] * count)
    numbers: dict[str, list[int]] = defaultdict(lambda: [0] * count)
    shards: dict[Unit, int] = {}
    for unit in sorted(units, key=lambda unit: (-costs[unit], str(unit))):
        data = units[unit][0].data
        load, number, first = loads[data], numbers[data], crc32(data.encode()) % count
        least = min(range(count), key=lambda shard: (load[shard], number[shard], (shard - first) % count))
        load[least] += costs[unit]
        number[least] += len(units[unit])
        shards[unit] = least + 1
    return Division(sources, shards, len(runs))


def part_of(plan: Plan, division: Division, shard: Shard) -> Plan:
    """What a shard has of a plan."""

    def own(specs: Sequence[RunSpec]) -> list[RunSpec]:
        return [spec for spec in specs if division.shard_of(spec) == shard.index]

    return replace(
        plan, pending=own(plan.pending), kept=own(plan.kept), waiting=own(plan.waiting), again=own(plan.again)
    )


def cost(spec: RunSpec) -> int:
    """Passes through the network for each image, beside other runs on the same data set: no measure of time."""
    settings, tasks = spec.settings, len(spec.tasks)
    weighting = settings.weighting
    networks = 1 if settings.arch.shares_parameters else tasks
    backward = 1 if weighting.needs == "losses" else tasks * batches_of(weighting)
    return settings.train.epochs * (networks + backward)


def _unit(spec: RunSpec, sources: frozenset[str]) -> Unit:
    for name in (_source(spec), _row_name(spec)):
        if name in sources:
            return name
    return spec.key


def _row_name(spec: RunSpec) -> str:
    return f"{spec.data}/{spec.variant}"


def _source(spec: RunSpec) -> str:
    """The data set and variant of the runs whose weights a frozen run has; "" of any other run."""
    return getattr(spec.settings.weighting, "source", "") if spec.weighting == FROZEN else ""
