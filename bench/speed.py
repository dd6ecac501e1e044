"""Benchmarks of speed: training steps, weightings, NORMAL's flow, reading images.

A bare `python -m bench.speed` times a training step of every method. Each command has its own --help.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench import ROOT
from bench.cli.options import (
    assignment,
    cores,
    file_name,
    folder,
    guarded,
    lookup_name,
    plain_console,
    positive,
    processes,
)
from bench.cli.parser import CommandParser
from bench.cli.progress import BenchmarkProgress
from bench.engine.device import DeviceUnavailable, chip_name, choose_device
from bench.engine.hardware import hardware_errors, hardware_remarks
from bench.forecasting import calibration
from bench.forecasting.calibration_page import calibration_page
from bench.forecasting.measured_elsewhere import beside_page, estimates_of
from bench.profiling import commands, data, flow, solvers
from bench.profiling.command_tables import commands_page
from bench.profiling.memory import measure_memory
from bench.profiling.processes import CommandFailed
from bench.profiling.step import APPROXIMATED, WARMUP, MethodStep, StepBenchmark, time_steps
from bench.profiling.tables import Page, samples_page, samples_table, solver_page
from bench.profiling.trees import TREES
from bench.profiling.workloads import SCALING_BACKBONES, SCALING_TASKS, Size, Workload, scaling_workloads, workloads
from bench.records.environment import describe_environment
from bench.records.hardware import read_hardware
from bench.records.names import machine_slug
from bench.records.speed import BASELINE, OURS, Cell, SpeedRecord, WorkloadRecord, merged, read_speeds, write_speed
from bench.records.store import RecordError
from bench.reporting.render import aligned
from bench.spec.lookup import UnknownName, lookup
from bench.spec.resolve import RunSpec
from bench.spec.settings import SpecError
from methods import METHODS, WEIGHTINGS
from methods.adapters.counterparts import PACKAGES, import_errors, versions

# The steps of a benchmark, given the packages that are installed.
Steps = Callable[[StepBenchmark, Sequence[str]], list[MethodStep]]


def main(argv: Sequence[str] | None = None) -> int:
    """0. 1: one of our own methods failed. 2: bad input. 130: interrupted."""
    given = list(sys.argv[1:] if argv is None else argv)
    named = given and (not given[0].startswith("-") or given[0] in ("-h", "--help"))
    arguments = _parser().parse_args(given if named else ["step", *given])
    return guarded(lambda: arguments.run(arguments), DeviceUnavailable, UnknownName, SpecError, RecordError)


def _parser() -> ArgumentParser:
    parser = CommandParser(prog="python -m bench.speed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Namespace], int], text: str) -> ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(run=run, against=[])
        return added

    step = command("step", _step, "time and peak memory of a training step of every method (default)")
    names = ", ".join(METHODS)
    step.add_argument(
        "--methods", nargs="+", type=lookup_name, default=["all"], metavar="NAME", help=f"all (default), or of {names}"
    )
    _add_workloads(step)
    _add_packages(step, "+", "none")
    _add_measurement(step)

    scaling = command("scaling", _scaling, "a training step by number of tasks and of shared parameters")
    numbers, backbones = " ".join(map(str, SCALING_TASKS)), " ".join(SCALING_BACKBONES)
    _add_list(scaling, "--tasks", SCALING_TASKS, "M", f"numbers of tasks (default: {numbers})", type=positive)
    _add_list(scaling, "--backbones", SCALING_BACKBONES, "NAME", f"default: {backbones}", type=lookup_name)
    _add_packages(scaling, "+", "none")
    _add_measurement(scaling)

    shortcuts = command("shortcuts", _shortcuts, "a training step with approximate Gramians, or with cached weights")
    _add_list(
        shortcuts, "--methods", APPROXIMATED, "NAME", f"default: {' '.join(APPROXIMATED)}", nargs="+", type=lookup_name
    )
    _add_workloads(shortcuts)
    _add_measurement(shortcuts)

    alone = command("solvers", _solvers, "time and exactness of every weighting by itself")
    numbers = " ".join(map(str, solvers.TASKS))
    _add_list(alone, "--tasks", solvers.TASKS, "M", f"numbers of tasks (default: {numbers})", nargs="+", type=positive)
    _add_packages(alone, "*", "all")
    _add_rounds(alone, 10)
    alone.add_argument("--out", type=folder, metavar="DIR", help="also write solvers.md and solvers.csv there")

    ode = command("flow", _flow, "cost of NORMAL's flow in a training step, by tasks, inputs and solver")
    _add_list(ode, "--questions", flow.QUESTIONS, None, "default: all", nargs="+", choices=list(flow.QUESTIONS))
    ode.add_argument("--batch", type=positive, default=8, metavar="B", help="images of an input (default: 8)")
    _add_rounds(ode, 20)
    _add_device(ode, 1)
    ode.add_argument("--out", type=folder, metavar="DIR", help="also write flow.md and flow.csv there")
    _add_estimates(command("estimates", _estimates, "how well estimates for other hardware hold on this processor"))
    _add_reading(command("data", _data, "images per second, from prepared arrays and with torchvision"))
    return parser


def _add_estimates(parser: ArgumentParser) -> None:
    _add_rounds(parser, 3)
    parser.add_argument("--threads", type=processes, default=1, metavar="N", help="default: 1")
    parser.add_argument("--out", type=folder, metavar="DIR", help="also write estimates.md and estimates.csv there")
    parser.add_argument(
        "--of", type=folder, metavar="RECORD",
        help="instead, estimates of the steps in a record of bench.gpu_check, beside what was measured",
    )  # fmt: skip


def _add_reading(parser: ArgumentParser) -> None:
    parser.add_argument("--images", type=positive, default=512, metavar="N", help="JPEGs to read (default: 512)")
    _add_rounds(parser, 5)
    _add_device(parser, 2)
    parser.add_argument("--out", type=folder, metavar="DIR", help="also write data.md and data.csv there")
    known = ", ".join(TREES)
    parser.add_argument(
        "--trees", nargs="*", type=lookup_name, metavar="NAME",
        help=f"instead, time and memory of all commands on trees like those of {known} (default: both); with --out, "
        "writes trees.md and trees.csv",
    )  # fmt: skip


def _add_list(
    parser: ArgumentParser, name: str, default: Sequence[Any] | Any, metavar: str | None, text: str, **options: Any
) -> None:
    parser.add_argument(name, **{"nargs": "*", **options}, default=list(default), metavar=metavar, help=text)


def _add_workloads(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", nargs="+", type=lookup_name, metavar="NAME", help=f"of {', '.join(workloads('cpu'))} (default: all)"
    )
    parser.add_argument("--size", choices=("cpu", "paper"), help="of batches (default: cpu on a CPU, else paper)")


def _add_packages(parser: ArgumentParser, nargs: str, default: str) -> None:
    chosen = sorted(PACKAGES) if default == "all" else []
    parser.add_argument(
        "--against", choices=sorted(PACKAGES), nargs=nargs, default=chosen, help=f"other packages (default: {default})"
    )


def _add_rounds(parser: ArgumentParser, default: int) -> None:
    parser.add_argument(
        "--rounds", type=positive, default=default, metavar="N", help=f"samples of each candidate (default: {default})"
    )


def _add_device(parser: ArgumentParser, threads: int) -> None:
    parser.add_argument("--device", type=lookup_name, default="auto", metavar="auto|cpu|cuda", help="default: auto")
    parser.add_argument("--threads", type=processes, default=threads, metavar="N", help=f"default: {threads}")


def _add_measurement(parser: ArgumentParser) -> None:
    _add_rounds(parser, 5)
    _add_device(parser, cores())
    parser.add_argument(
        "--set", nargs="+", action="extend", type=assignment, default=[], metavar="KEY=VALUE", dest="assignments",
        help="settings of our runs",
    )  # fmt: skip
    parser.add_argument("--no-memory", action="store_false", dest="memory", help="leave out the peak memory of a step")
    parser.add_argument("--machine", type=file_name, metavar="NAME", help="of the record (default: chip and threads)")
    results = ROOT / "results" / "speed"
    parser.add_argument(
        "--results", type=folder, default=results, metavar="DIR", help="records (default: results/speed)"
    )
    parser.add_argument("--out", type=folder, metavar="DIR", help="also write tables and figures there")


def machine_name(chip: str, threads: int) -> str:
    """Like amd-epyc-7b13-2-threads."""
    return "-".join(filter(None, [machine_slug(chip), str(threads), "thread" if threads == 1 else "threads"]))


def _step(arguments: Namespace) -> int:
    everything = any(name.lower() == "all" for name in arguments.methods)
    methods = list(METHODS) if everything else _methods(arguments)
    return _measure(arguments, "", lambda benchmark, packages: benchmark.steps(methods, packages))


def _shortcuts(arguments: Namespace) -> int:
    methods = _methods(arguments)
    return _measure(arguments, "-shortcuts", lambda benchmark, packages: benchmark.approximations(methods))


def _scaling(arguments: Namespace) -> int:
    planned = scaling_workloads(arguments.tasks, arguments.backbones)
    # One method that needs the losses alone, and one that needs every task's gradient.
    return _measure(
        arguments, "-scaling", lambda benchmark, packages: benchmark.steps(("ew", "mgda"), packages), planned
    )


def _methods(arguments: Namespace) -> list[str]:
    return list(dict.fromkeys(lookup(METHODS, "method", name) for name in arguments.methods))


def _measure(arguments: Namespace, suffix: str, steps_of: Steps, planned: Sequence[Workload] | None = None) -> int:
    """Measures workload by workload, saves each at once, and shows the record.

    suffix: of the record's name.
    planned: by default the workloads of --shapes at --size.
    """
    console, device = plain_console(), choose_device(arguments.device)
    size: Size = arguments.size if planned is None and arguments.size else ("cpu" if device.type == "cpu" else "paper")
    if planned is None:
        known = workloads(size)
        keys = dict.fromkeys(lookup(known, "shape", name) for name in arguments.shapes or known)
        planned = [known[key] for key in keys]
    blank = _blank_record(arguments, device, suffix, "scaling" if suffix == "-scaling" else size)
    torch.set_num_threads(arguments.threads)
    missing = import_errors([PACKAGES[key] for key in dict.fromkeys(arguments.against)])
    for reason in filter(None, missing.values()):
        console.print(f"{reason}.")
    packages = [package for package, reason in missing.items() if not reason]
    record = next((r for r in read_speeds(arguments.results) if r.machine == blank.machine), None)
    benchmarks = [StepBenchmark(workload, blank.settings, device) for workload in planned]
    steps = [steps_of(benchmark, packages) for benchmark in benchmarks]  # all of them first, to find bad settings
    specs = [b.spec(step) for b, some in zip(benchmarks, steps, strict=True) for step in some]
    _say_what_settings_do(specs, device, console)
    failed, path = False, arguments.results
    remembered = sum(step.candidate != BASELINE for some in steps for step in some) if arguments.memory else 0
    samples = sum(len(some) for some in steps) * (WARMUP + arguments.rounds) + remembered
    with BenchmarkProgress(console, samples) as progress:
        for benchmark, some in zip(benchmarks, steps, strict=True):
            try:
                workload, cells = _measure_one(benchmark, some, arguments, progress)
            except KeyboardInterrupt:
                progress.message(f"Interrupted at {benchmark.workload.key}; what was measured before is saved.")
                raise
            failed = failed or any(cell.error for cell in cells if cell.candidate == OURS)
            record = merged(record, blank.model_copy(update={"workloads": [workload], "cells": cells}))
            path = write_speed(arguments.results, record)
    if record is not None:
        _show(record, arguments.out)
    console.print(f"Record: {path}")
    return int(failed)


def _say_what_settings_do(specs: Sequence[RunSpec], device: torch.device, console: Console) -> None:
    """Prints what the user should know about the settings on this device; raises SpecError for what it can't do."""
    if impossible := hardware_errors(specs, device):
        raise SpecError("\n".join(impossible))
    for remark in hardware_remarks(specs, device):
        console.print(remark)


def _measure_one(
    benchmark: StepBenchmark, steps: Sequence[MethodStep], arguments: Namespace, progress: BenchmarkProgress
) -> tuple[WorkloadRecord, list[Cell]]:
    """The workload, and a cell for each step: first all times, then the memory of those that didn't fail."""
    key = benchmark.workload.key
    progress.message(f"{key}: {benchmark.workload.label}, {len(steps)} candidates")

    def follow(candidate: str) -> None:
        progress(f"{key}: {candidate}")

    workload, cells = time_steps(benchmark, steps, arguments.rounds, follow)
    if arguments.memory:
        working = [step for step, cell in zip(steps, cells, strict=True) if not cell.error]
        peaks = measure_memory(benchmark, working, arguments.threads, follow)
        cells = [cell.model_copy(update={"peak_mib": peaks.get(step)}) for step, cell in zip(steps, cells, strict=True)]
    progress.message(f"{key}: done")
    return workload, cells


def _blank_record(arguments: Namespace, device: torch.device, suffix: str, size: str) -> SpeedRecord:
    """A record without measurements."""
    environment: dict[str, Any] = {**describe_environment(ROOT), **versions()}
    if device.type != "cpu":
        environment["accelerator"] = chip_name(device)
    return SpeedRecord(
        machine=(arguments.machine or machine_name(chip_name(device), arguments.threads)) + suffix,
        device=str(device),
        threads=arguments.threads,
        rounds=arguments.rounds,
        size=size,
        settings=dict(arguments.assignments),
        environment=environment,
        workloads=[],
        cells=[],
    )


def _show(record: SpeedRecord, out: Path | None) -> None:
    from bench.reporting.speed.report import text_table, write_speed_report  # matplotlib takes a while to import

    print(text_table(record))
    for path in write_speed_report(record, out) if out is not None else ():
        print(path)


def _solvers(arguments: Namespace) -> int:
    missing = import_errors([PACKAGES[key] for key in dict.fromkeys(arguments.against)])
    packages = [package for package, reason in missing.items() if not reason]
    with BenchmarkProgress(plain_console(), len(WEIGHTINGS) * len(arguments.tasks)) as progress:
        solutions = list(solvers.measure(arguments.tasks, packages, arguments.rounds, progress))
    page = solver_page(solutions, missing)
    print(page.text())
    return _write(page, arguments.out, "solvers")


def _flow(arguments: Namespace) -> int:
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    results = {}
    for name in dict.fromkeys(arguments.questions):
        results[name] = flow.measure(name, arguments.batch, arguments.rounds, device)
        print(aligned(samples_table(name, results[name])))
    images = f"Batches of {arguments.batch} images of {flow.PIXELS}×{flow.PIXELS}"
    page = samples_page(results, _circumstances(images, arguments, device))
    print("\n".join(page.remarks))
    return _write(page, arguments.out, "flow")


def _estimates(arguments: Namespace) -> int:
    if arguments.of is not None:
        record = read_hardware(arguments.of)
        page = beside_page(record, estimates_of(record))
        print(page.text())
        return _write(page, arguments.out, "estimates")
    torch.set_num_threads(arguments.threads)
    with BenchmarkProgress(plain_console(), len(calibration.PROBLEMS) * (WARMUP + arguments.rounds)) as progress:
        found = calibration.check(calibration.PROBLEMS, arguments.rounds, progress)
    page = calibration_page(found, _circumstances("Images of noise", arguments, torch.device("cpu")))
    print(page.text())
    return _write(page, arguments.out, "estimates")


def _data(arguments: Namespace) -> int:
    if arguments.trees is not None:
        return _trees(arguments)
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    results = data.measure(arguments.images, arguments.rounds, device)
    images = f"{arguments.images} JPEGs of about 300×300, batches of {data.BATCH}"
    page = samples_page(results, _circumstances(images, arguments, device))
    print(page.text())
    return _write(page, arguments.out, "data")


def _trees(arguments: Namespace) -> int:
    """1 if one of the commands failed."""
    names = list(dict.fromkeys(lookup(TREES, "tree", name) for name in arguments.trees or TREES))
    console = plain_console()
    try:
        measured = commands.measure(names, console.print)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    environment, cpu = describe_environment(ROOT), torch.device("cpu")
    page = commands_page(measured, f"On {chip_name(cpu)} with {cores()} cores, torch {environment['torch']}.")
    print(page.text())
    return _write(page, arguments.out, "trees")


def _circumstances(images: str, arguments: Namespace, device: torch.device) -> str:
    """One line on where and how it was measured."""
    environment = describe_environment(ROOT)
    return (
        f"{images}; {arguments.rounds} rounds on {device.type} ({chip_name(device)}), threads: {arguments.threads}, "
        f"torch {environment['torch']}, torchdiffeq {environment['torchdiffeq']}."
    )


def _write(page: Page, out: Path | None, name: str) -> int:
    if out is not None:
        page.write(out, name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
