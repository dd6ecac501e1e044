"""The whole check: its parts one after another, each in its share of the time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import torch

from bench.hardware_check.attempts import Name, in_short
from bench.hardware_check.deadline import Deadline
from bench.hardware_check.environment import hardware_environment
from bench.hardware_check.every_step import check_steps
from bench.hardware_check.problems import Places, Problem, read_problem
from bench.hardware_check.settings import check_products, check_settings
from bench.hardware_check.speed import cases, measure_speed
from bench.hardware_check.steps import PERTURBATION, STEPS
from bench.hardware_check.study import SCORE_TOLERANCE, check_study
from bench.hardware_check.verdict import MOST_DRAWS, MOST_ROUNDING, ROUNDING_FACTOR, TOLERANCE
from bench.hardware_check.waits import WaitCounter
from bench.profiling.workloads import Size
from bench.records.hardware import Check, HardwareRecord, Speed

# The parts in their order, each with its share of the time. What one leaves goes to those after it; the one that can
# always use more comes last.
SHARES: Mapping[str, float] = {"steps": 0.4, "settings": 0.1, "study": 0.2, "speed": 0.3}

Found = tuple[Check, Speed | None]


@dataclass(frozen=True)
class CheckRequest:
    """What to check.

    machine: the name of the record.
    parts: of SHARES.
    data: embedded problems.
    seconds: for all parts together; a check that has begun may end later.
    counter: of waits; None if those of this device are not counted.
    """

    machine: str
    device: torch.device
    parts: Sequence[str]
    data: Sequence[str]
    weightings: Sequence[str]
    seconds: float
    size: Size
    places: Places
    counter: WaitCounter | None


@dataclass
class _Findings:
    """What the parts have found so far."""

    checks: list[Check] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def check_hardware(
    request: CheckRequest, on_check: Callable[[Check], None], on_part: Callable[[str], None]
) -> HardwareRecord:
    """Runs the chosen parts. An error of one is a failed check, and the others go on.

    on_check: called after each check. on_part: called with the name of each part before it.
    """
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    findings = _Findings()
    whole = Deadline(request.seconds)
    problems = list(_problems(request, findings.checks))
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        parts = [name for name in SHARES if name in request.parts]
        for place, part in enumerate(parts):
            on_part(part)
            start = time.monotonic()
            deadline = Deadline(whole.left * SHARES[part] / sum(SHARES[name] for name in parts[place:]))
            for check, speed in _guarded(part, request, problems, Path(scratch), deadline):
                findings.checks.append(check)
                findings.speeds += [speed] if speed is not None else []
                on_check(check)
            findings.seconds[part] = time.monotonic() - start
    return HardwareRecord(
        machine=request.machine,
        device=request.device.type,
        date=date,
        environment=hardware_environment(request.device),
        settings=_settings(request),
        seconds=findings.seconds,
        checks=[*findings.checks, *_left_out(request)],
        speeds=findings.speeds,
    )


def _problems(request: CheckRequest, checks: list[Check]) -> Iterator[Problem]:
    """The data sets that can be read; the others are failed checks."""
    for data in request.data:
        try:
            yield read_problem(data, request.places, request.device)
        except Exception as error:
            checks.append(Name("data", data, "read").failed(in_short(error)))


def _guarded(
    part: str, request: CheckRequest, problems: Sequence[Problem], scratch: Path, deadline: Deadline
) -> Iterator[Found]:
    """What a part finds; an error between its checks is one more check that failed."""
    try:
        yield from _run(part, request, problems, scratch, deadline)
    except Exception as error:
        yield Name(part, "", "").failed(in_short(error)), None


def _run(
    part: str, request: CheckRequest, problems: Sequence[Problem], scratch: Path, deadline: Deadline
) -> Iterator[Found]:
    if part == "speed":
        yield from measure_speed(cases(problems, request.size), request.device, deadline)
        return
    for checks in _checks(part, request, problems, scratch, deadline):
        for check in checks:
            yield check, None


def _checks(
    part: str, request: CheckRequest, problems: Sequence[Problem], scratch: Path, deadline: Deadline
) -> Iterator[Iterator[Check]]:
    if part == "study":
        yield check_study([p.data for p in problems], request.places, scratch, request.device, deadline)
        return
    if part == "settings":
        yield check_products(request.device, deadline)
    for place, problem in enumerate(problems):
        share = Deadline(deadline.left / (len(problems) - place))  # so that none gets all the time of a slow machine
        if part == "steps":
            yield check_steps(problem, request.weightings, request.counter, share)
        else:
            yield check_settings(problem, share)


def _left_out(request: CheckRequest) -> list[Check]:
    """The parts that were not chosen."""
    return [Name(part, "", "").not_run("not chosen") for part in SHARES if part not in request.parts]


def _settings(request: CheckRequest) -> dict[str, object]:
    return {
        "parts": list(request.parts),
        "data": list(request.data),
        "weightings": list(request.weightings),
        "seconds": request.seconds,
        "size": request.size,
        "steps": STEPS,
        "tolerance": TOLERANCE,
        "perturbation": PERTURBATION,
        "most_draws": MOST_DRAWS,
        "rounding_factor": ROUNDING_FACTOR,
        "most_rounding": MOST_ROUNDING,
        "score_tolerance": SCORE_TOLERANCE,
        "threads": torch.get_num_threads(),
    }
