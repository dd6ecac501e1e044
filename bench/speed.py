"""Speed: python -m bench.speed [step] | scaling | shortcuts | solvers | flow | data, beside others where there are any.

They time a training step of every method, how it grows, what shortcuts save, weightings alone, NORMAL's flow, reading.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench import ROOT
from bench.cli.options import INTERRUPTED, assignment, cores, guarded, plain_console, positive
from bench.engine.device import DeviceUnavailable, chip_name, choose_device
from bench.profiling import approximations, data_table, flow_table, scaling, solver_table
from bench.profiling import data as data_speed
from bench.profiling.flow import QUESTIONS, circumstances
from bench.profiling.flow import measure as measure_flow
from bench.profiling.harness import Lap, TurnProgress
from bench.profiling.memory import measure_course, turns
from bench.profiling.peers import versions as peer_versions
from bench.profiling.solvers import PEERS, TASKS, installed
from bench.profiling.solvers import measure as measure_solvers
from bench.profiling.step import Course, Entry, machine_name, merged
from bench.profiling.workloads import Shape, Size, shapes
from bench.records.environment import describe_environment
from bench.records.speed import OURS, Series, SpeedRecord, read_speeds, write_speed
from bench.records.store import RecordError
from bench.spec.lookup import UnknownName, lookup
from bench.spec.settings import SpecError
from methods import METHODS


def main(argv: Sequence[str] | None = None) -> int:
    """0. 1: one of our own methods failed at its step. 2: bad input. 130: interrupted."""
    given = list(sys.argv[1:] if argv is None else argv)
    parser = ArgumentParser(prog="python -m bench.speed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_step(commands.add_parser("step", help="a training step of every method, in ms and MiB (the default)"))
    _add_scaling(commands.add_parser("scaling", help="a step by the number of tasks and of shared parameters"))
    _add_shortcuts(commands.add_parser("shortcuts", help="what rarer weights, and weights from less, save of a step"))
    _add_solvers(commands.add_parser("solvers", help="one step of every weighting, in ms, and how exact it is"))
    _add_flow(commands.add_parser("flow", help="what NORMAL's flow costs: in a step, by tasks, inputs and solver"))
    _add_data(commands.add_parser("data", help="images a second, from prepared arrays and beside torchvision"))
    named = given and (not given[0].startswith("-") or given[0] in ("-h", "--help"))
    arguments = parser.parse_args(given if named else ["step", *given])
    commanded = {
        "step": _step,
        "scaling": _scaling,
        "shortcuts": _shortcuts,
        "solvers": _solvers,
        "flow": _flow,
        "data": _data,
    }
    command = commanded[arguments.command]
    try:
        return guarded(lambda: command(arguments), DeviceUnavailable, UnknownName, SpecError, RecordError)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED


def _add_step(parser: ArgumentParser) -> None:
    names = ", ".join(METHODS)
    parser.add_argument("--methods", nargs="+", default=["all"], metavar="NAME", help=f"all (default), or of {names}")
    _add_shapes(parser)
    _add_peers(parser)
    _add_measurement(parser)


def _add_shortcuts(parser: ArgumentParser) -> None:
    usual = " ".join(approximations.METHODS)
    parser.add_argument(
        "--methods", nargs="+", default=list(approximations.METHODS), metavar="NAME", help=f"default: {usual}"
    )
    _add_shapes(parser)
    _add_measurement(parser)
    parser.set_defaults(against=[])


def _add_shapes(parser: ArgumentParser) -> None:
    parser.add_argument("--shapes", nargs="+", metavar="NAME", help=f"of {', '.join(shapes('cpu'))} (default: all)")
    parser.add_argument("--size", choices=("cpu", "paper"), help="of batches (default: cpu on a CPU, else paper)")


def _add_peers(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--against", choices=sorted(PEERS), nargs="+", default=[], help="other packages (default: none)"
    )


def _add_scaling(parser: ArgumentParser) -> None:
    parser.add_argument("--tasks", type=positive, nargs="*", default=list(scaling.TASKS), metavar="M")
    parser.add_argument("--backbones", nargs="*", default=list(scaling.ENCODERS), metavar="NAME")
    _add_peers(parser)
    _add_measurement(parser)


def _add_measurement(parser: ArgumentParser) -> None:
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each (default: 5)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    parser.add_argument("--threads", type=positive, default=cores(), metavar="N", help="of torch (default: all cores)")
    parser.add_argument(
        "--set", nargs="+", action="extend", type=assignment, default=[], metavar="KEY=VALUE", dest="assignments"
    )
    parser.add_argument("--no-memory", action="store_false", dest="memory", help="leave out the peak memory of a step")
    parser.add_argument(
        "--machine", type=_file_name, metavar="NAME", help="names the record (default: the processor and threads)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "results" / "speed",
        metavar="DIR",
        help="records (default: results/speed)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write tables and figures there")


def _file_name(text: str) -> str:
    """A name that can be that of a file."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ArgumentTypeError(f"expected letters, digits and any of . _ -, found {text!r}")
    return text


def _add_solvers(parser: ArgumentParser) -> None:
    parser.add_argument("--tasks", type=positive, nargs="+", default=list(TASKS), metavar="M", help="numbers of tasks")
    parser.add_argument(
        "--against", choices=sorted(PEERS), nargs="*", default=sorted(PEERS), help="other packages (default: all)"
    )
    parser.add_argument("--rounds", type=positive, default=10, metavar="N", help="turns on each Gramian")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write solvers.md and solvers.csv there")


def _add_flow(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--questions", choices=list(QUESTIONS), nargs="+", default=list(QUESTIONS), help="which (default: all)"
    )
    parser.add_argument("--batch", type=positive, default=8, metavar="B", help="images of an input (default: 8)")
    parser.add_argument("--rounds", type=positive, default=20, metavar="N", help="turns of each way (default: 20)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write flow.md and flow.csv there")


def _add_data(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=positive, default=512, metavar="N", help="JPEGs to read (default: 512)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each way (default: 5)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda")
    parser.add_argument("--threads", type=positive, default=2, metavar="N", help="of torch (default: 2)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write data.md and data.csv there")


def _step(arguments: Namespace) -> int:
    everything = any(name.lower() == "all" for name in arguments.methods)
    methods = list(METHODS) if everything else _methods(arguments)
    blank, planned = _blank_and_shapes(arguments)
    return _measure(arguments, blank, planned, lambda course, peers: course.entries(methods, peers))


def _shortcuts(arguments: Namespace) -> int:
    methods = _methods(arguments)
    blank, planned = _blank_and_shapes(arguments)
    blank.machine += "-shortcuts"
    return _measure(arguments, blank, planned, lambda course, peers: approximations.shortcut_entries(course, methods))


def _scaling(arguments: Namespace) -> int:
    blank = _blank_record(arguments, choose_device(arguments.device), scaling.SIZE)
    blank.machine += "-scaling"
    planned = scaling.scaling_shapes(arguments.tasks, arguments.backbones)
    return _measure(arguments, blank, planned, lambda course, peers: course.entries(scaling.METHODS, peers))


def _methods(arguments: Namespace) -> list[str]:
    return list(dict.fromkeys(lookup(METHODS, "method", name) for name in arguments.methods))


def _blank_and_shapes(arguments: Namespace) -> tuple[SpeedRecord, list[tuple[Shape, Series]]]:
    device = choose_device(arguments.device)
    size: Size = arguments.size or ("cpu" if device.type == "cpu" else "paper")
    known = shapes(size)
    keys = dict.fromkeys(lookup(known, "shape", name) for name in arguments.shapes or known)
    return _blank_record(arguments, device, size), [(known[key], "") for key in keys]


def _blank_record(arguments: Namespace, device: torch.device, size: str) -> SpeedRecord:
    """Of a measurement that is about to begin."""
    environment: dict[str, Any] = {**describe_environment(ROOT), **peer_versions()}
    if device.type != "cpu":
        environment["accelerator"] = chip_name(device)
    return SpeedRecord(
        machine=arguments.machine or machine_name(chip_name(device), arguments.threads),
        device=str(device),
        threads=arguments.threads,
        rounds=arguments.rounds,
        size=size,
        settings=dict(arguments.assignments),
        environment=environment,
        shapes=[],
        cells=[],
    )


def _measure(
    arguments: Namespace,
    blank: SpeedRecord,
    planned: Sequence[tuple[Shape, Series]],
    entries_of: Callable[[Course, Sequence[str]], list[Entry]],
) -> int:
    """Measures shape by shape, each of which is kept as soon as it is there, and shows what is kept."""
    console = plain_console()
    torch.set_num_threads(blank.threads)
    missing = installed([PEERS[key] for key in dict.fromkeys(arguments.against)])
    for why in filter(None, missing.values()):
        console.print(f"{why}.")
    peers = [peer for peer, why in missing.items() if not why]
    record = next((r for r in read_speeds(arguments.results) if r.machine == blank.machine), None)
    courses = [Course(shape, series, blank.settings, torch.device(blank.device)) for shape, series in planned]
    entries = [entries_of(course, peers) for course in courses]  # all of them, so that bad settings are found
    failed, path = False, arguments.results
    with TurnProgress(console, sum(turns(some, blank.rounds, arguments.memory) for some in entries)) as progress:
        for course, some in zip(courses, entries, strict=True):
            try:
                shape, cells = measure_course(course, some, blank.rounds, blank.threads, arguments.memory, progress)
            except KeyboardInterrupt:
                progress.say(f"Interrupted at {course.shape.key}; what was measured before is kept.")
                raise
            failed = failed or any(cell.fault for cell in cells if cell.contestant == OURS)
            record = merged(record, blank.model_copy(update={"shapes": [shape], "cells": cells}))
            path = write_speed(arguments.results, record)
    if record is not None:
        _show(record, arguments.out)
    console.print(f"Record: {path}")
    return int(failed)


def _show(record: SpeedRecord, out: Path | None) -> None:
    from bench.reporting.speed.report import text_table, write_speed_report  # matplotlib takes a while to import

    print(text_table(record))
    for path in write_speed_report(record, out) if out is not None else ():
        print(path)


def _solvers(arguments: Namespace) -> int:
    missing = installed([PEERS[key] for key in arguments.against])
    peers = [peer for peer, why in missing.items() if not why]
    timings = list(measure_solvers(arguments.tasks, peers, arguments.rounds))
    solver_table.show(timings, missing)
    if arguments.out is not None:
        solver_table.write(timings, missing, arguments.out)
    return 0


def _flow(arguments: Namespace) -> int:
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    laps: list[Lap] = []
    for question in dict.fromkeys(arguments.questions):
        answer = measure_flow(question, arguments.batch, arguments.rounds, device)
        flow_table.show(question, answer)
        laps += answer
    where = circumstances(arguments.batch, arguments.rounds, device)
    print(where)
    if arguments.out is not None:
        flow_table.write(laps, where, arguments.out)
    return 0


def _data(arguments: Namespace) -> int:
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    turns = data_speed.measure(arguments.images, arguments.rounds, device)
    where = data_speed.circumstances(arguments.images, arguments.rounds, device)
    data_table.show(turns, where)
    if arguments.out is not None:
        data_table.write(turns, where, arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
