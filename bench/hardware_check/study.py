"""Part "study": the runs of the study "quick" on the device and on the CPU, by the launcher of bench.run.

A run on the device and one on the CPU train apart, because rounding grows with every step. So their scores are noted,
and only how they ended is checked. One run is stopped after its first epoch and has to go on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from bench.cli.options import cores
from bench.hardware_check.attempts import NO_TIME, Name, attempt, shortened
from bench.hardware_check.deadline import Deadline
from bench.hardware_check.problems import Places
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally, start_server
from bench.launch.messages import Event
from bench.records.hardware import Check
from bench.records.record import Record
from bench.spec.planning import Plan, make_plan
from bench.spec.request import Request
from bench.spec.study import StudyRow, load_study
from datasets.decoding.prepare import Preparation, preparing

STUDY = "quick"
# Differences of the selection score on validation beyond which a remark says so: of mean accuracy, or of log gain.
SCORE_TOLERANCE = 0.1
# The share of the time in which the device's runs have to end; the CPU's get the rest.
_DEVICE_SHARE = 0.6
_RESUMED = StudyRow(method="ew", set={"train.epochs": 3})

OnEvent = Callable[[Event], None]


class _Stop(Exception):
    """Ends a launch, whose workers stop then as they do at Ctrl-C."""


def check_study(
    data: Sequence[str], places: Places, scratch: Path, device: torch.device, deadline: Deadline
) -> Iterator[Check]:
    """A check for each run of the study on these data sets, and one for the run that is resumed.

    scratch: an empty folder for the records.
    """
    resumed = Name("resumed", data[0], "ew")
    yield from attempt([resumed], deadline, lambda: [_resumed(resumed, places, scratch / "resumed", device)])
    rows = load_study(STUDY).rows
    names = [Name("study", key, row.method or "") for key in data for row in rows]

    def compared() -> list[Check]:
        on_device = _records(rows, data, places, scratch / "device", device, Deadline(_DEVICE_SHARE * deadline.left))
        on_cpu = _records(rows, data, places, scratch / "cpu", torch.device("cpu"), deadline)
        return [_compared(name, on_device, on_cpu) for name in names]

    yield from attempt(names, deadline, compared)


def _plan(rows: Sequence[StudyRow], data: Sequence[str], places: Places, results: Path) -> Plan:
    with preparing(Preparation(cache=places.cache)):
        return make_plan(Request(rows, data, [0]), places.data_root, results)


def _launch(plan: Plan, places: Places, results: Path, device: torch.device, follow: OnEvent) -> None:
    """Trains the runs of a plan. What `follow` raises ends them."""
    config = LaunchConfig(plan.folders, results, str(device), threads=1, cache=places.cache, current=plan.current)
    start_server(config.threads)
    run_locally(plan.pending, config, cores() if device.type == "cpu" else 1, follow)


def _records(
    rows: Sequence[StudyRow],
    data: Sequence[str],
    places: Places,
    results: Path,
    device: torch.device,
    deadline: Deadline,
) -> dict[tuple[str, str], Record]:
    """The records of the runs that end in time, by data set and method."""
    found: dict[tuple[str, str], Record] = {}

    def follow(event: Event) -> None:
        if event.record is not None:
            found[event.record.data, event.record.method] = event.record
        if deadline.passed:
            raise _Stop

    with suppress(_Stop):
        _launch(_plan(rows, data, places, results), places, results, device, follow)
    return found


def _compared(
    name: Name, on_device: Mapping[tuple[str, str], Record], on_cpu: Mapping[tuple[str, str], Record]
) -> Check:
    ours, theirs = (records.get((name.group, name.subject)) for records in (on_device, on_cpu))
    if ours is None:
        return name.not_run(NO_TIME)
    if ours.status == "failed" or (theirs is not None and ours.status != theirs.status):
        wanted = theirs.status if theirs is not None else "done"
        return name.failed(shortened(f"expected a run that is {wanted}, found {ours.status}: {ours.reason}"))
    if ours.selected is None or theirs is None or theirs.selected is None:
        return name.noted("it ended on the device; no run on the CPU to compare with")
    scores = {"device": ours.selected.score, "cpu": theirs.selected.score}
    if not abs(scores["device"] - scores["cpu"]) <= SCORE_TOLERANCE:
        return name.noted(f"scores are more than {SCORE_TOLERANCE} apart", **scores)
    return name.passed(**scores)


def _resumed(name: Name, places: Places, results: Path, device: torch.device) -> Check:
    """Stops a run after its first epoch and starts it again."""
    epochs: list[int] = []
    ended: list[Record] = []

    def stop(event: Event) -> None:
        if event.kind == "epoch" and event.epochs == 1:
            raise _Stop

    def follow(event: Event) -> None:
        epochs.append(event.epochs)
        ended.extend([event.record] if event.record is not None else [])

    with suppress(_Stop):
        _launch(_plan([_RESUMED], [name.group], places, results), places, results, device, stop)
    again = _plan([_RESUMED], [name.group], places, results)
    if not again.pending:
        return name.noted("the run ended before it could be stopped")
    _launch(again, places, results, device, follow)
    first = epochs[0] if epochs else 0
    if not ended or ended[-1].status != "done":
        reason = ended[-1].reason if ended else "no record"
        return name.failed(shortened(f"expected the run to end, found: {reason}"))
    return name.passed() if first == 1 else name.failed(f"expected to go on after epoch 1, found epoch {first}")
