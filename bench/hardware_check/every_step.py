"""Part "steps": the first steps of every weighting, on both architectures, on the embedded problems.

In single precision without TF32 they are compared with the CPU's, and their waits are counted. Under bf16 they have to
be finite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache

from bench.hardware_check.attempts import Name, attempt
from bench.hardware_check.deadline import Deadline
from bench.hardware_check.problems import ARCHITECTURES, Problem, spec_of
from bench.hardware_check.settings import SETTINGS
from bench.hardware_check.steps import CPU, Steps, take_steps
from bench.hardware_check.verdict import distance_only, parity
from bench.hardware_check.waits import WaitCounter
from bench.records.hardware import Check
from bench.spec.resolve import RunSpec


def check_steps(
    problem: Problem, weightings: Sequence[str], counter: WaitCounter | None, deadline: Deadline
) -> Iterator[Check]:
    """Three checks for each weighting and architecture."""
    for architecture in ARCHITECTURES:
        for weighting in weightings:
            yield from _checks_of(problem, weighting, architecture, counter, deadline)


def _checks_of(
    problem: Problem, weighting: str, architecture: str, counter: WaitCounter | None, deadline: Deadline
) -> Iterator[Check]:
    """Steps in single precision, then under bf16."""
    compared, waited, in_bf16 = (
        Name(part, f"{problem.data}, {architecture}", weighting) for part in ("parity", "waits", "bf16")
    )

    @cache
    def on_device() -> Steps:
        return take_steps(spec_of(problem.data, weighting, architecture), problem, problem.device, counter=counter)

    def single() -> list[Check]:
        spec = spec_of(problem.data, weighting, architecture)
        found, on_cpu = on_device(), take_steps(spec, problem, CPU)
        in_parity = parity(compared, found, on_cpu, lambda draw: take_steps(spec, problem, CPU, draw=draw))
        return [in_parity, _waits(waited, spec, found)]

    def bf16() -> list[Check]:
        spec = spec_of(problem.data, weighting, architecture, **SETTINGS["bf16"])
        return [distance_only(in_bf16, take_steps(spec, problem, problem.device), on_device(), "")]

    yield from attempt([compared, waited], deadline, single)
    yield from attempt([in_bf16], deadline, bf16)


def most_waits(spec: RunSpec) -> int:
    """How often a step may wait: never if the weighting needs losses only and no position is learned, else once."""
    return 0 if spec.settings.weighting.needs == "losses" and spec.settings.arch.position_rule is None else 1


def _waits(name: Name, spec: RunSpec, found: Steps) -> Check:
    """The waits of the steps after the first, which may set things up."""
    if found.waits is None:
        return name.not_run("waits are not counted on this device")
    most, worst = most_waits(spec), max(found.waits[1:], key=len)
    if len(worst) <= most:
        return name.passed(waits=len(worst))
    counts = Counter(place or "outside of this project" for place in worst)
    places = ", ".join(f"{place} ({number})" for place, number in counts.items())
    return name.failed(f"expected at most {most}, found {len(worst)} in a step: {places}", waits=len(worst))
