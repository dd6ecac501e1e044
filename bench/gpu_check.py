"""Checks an accelerator in under ten minutes: numbers, waits, speed and a small study on it, beside the CPU."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from bench import ROOT
from bench.cli.options import (
    add_cache_dir,
    add_data_root,
    file_name,
    folder,
    guarded,
    lookup_name,
    plain_console,
    positive,
)
from bench.cli.parser import CommandParser
from bench.cli.progress import BenchmarkProgress
from bench.engine.device import DeviceUnavailable, chip_name, choose_device
from bench.hardware_check.check import SHARES, CheckRequest, check_hardware
from bench.hardware_check.problems import EMBEDDED, OURS, Places
from bench.hardware_check.waits import COUNTERS, WaitCounter
from bench.records.hardware import Check, HardwareRecord, write_hardware
from bench.records.names import machine_slug
from bench.reporting.hardware import summary_lines, write_hardware_page
from bench.spec.lookup import UnknownName, lookup

SECONDS = 540


def main(argv: Sequence[str] | None = None, counters: Mapping[str, WaitCounter] = COUNTERS) -> int:
    """0: all checks passed. 1: one failed. 2: no accelerator, or bad input. 130: interrupted.

    counters: how waits are counted, by type of device.
    """
    arguments = _parser().parse_args(argv)
    return guarded(partial(_check, arguments, counters), DeviceUnavailable, UnknownName)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.gpu_check", description=__doc__)
    parser.add_argument(
        "--device", type=lookup_name, default="auto", metavar="auto|cuda|cpu",
        help="auto (default) for the accelerator; cpu rehearses: the CPU is compared with itself",
    )  # fmt: skip
    out = ROOT / "results" / "gpu"
    parser.add_argument("--out", type=folder, default=out, metavar="DIR", help="of the report (default: results/gpu)")
    parser.add_argument("--machine", type=file_name, metavar="NAME", help="its folder there (default: the model)")
    parser.add_argument(
        "--parts", nargs="+", type=lookup_name, default=list(SHARES), metavar="NAME", help=f"of {', '.join(SHARES)}"
    )
    parser.add_argument(
        "--data", nargs="+", type=lookup_name, default=list(EMBEDDED), metavar="NAME", help=f"of {', '.join(EMBEDDED)}"
    )
    parser.add_argument(
        "--weightings", nargs="+", type=lookup_name, default=list(OURS), metavar="NAME",
        help="those of the part steps (default: all of ours)",
    )  # fmt: skip
    parser.add_argument("--seconds", type=positive, default=SECONDS, metavar="N", help=f"in all (default: {SECONDS})")
    parser.add_argument(
        "--size", choices=("cpu", "paper"), help="of the batches of noise (default: cpu on a CPU, else paper)"
    )
    add_data_root(parser)
    add_cache_dir(parser)
    return parser


def _check(arguments: Namespace, counters: Mapping[str, WaitCounter]) -> int:
    chosen = _chosen(arguments)  # first: a wrong name is wrong on every machine
    device = _accelerator(arguments.device)
    request = _request(arguments, chosen, device, counters.get(device.type))
    console = plain_console()
    if device.type == "cpu":
        console.print("A rehearsal: the CPU is compared with itself, so that all distances are 0.")
    with BenchmarkProgress(console, samples=0) as progress:

        def follow(check: Check) -> None:
            progress(f"{check.part}: {check.subject} on {check.group}")
            if check.outcome == "failed":
                progress.message(f"failed: {check.part}, {check.group}, {check.subject}: {check.detail}")

        record = check_hardware(request, follow, lambda part: progress.message(f"part {part}"))
    return _report(record, arguments.out)


def _accelerator(name: str) -> torch.device:
    """The device of this name.

    Raises:
        DeviceUnavailable: there is none, or "auto" finds no accelerator.
    """
    device = choose_device(name)
    if name == "auto" and device.type == "cpu":
        raise DeviceUnavailable(
            "Expected an accelerator, found none on this machine; run this where one is, or rehearse with --device cpu."
        )
    return device


def _chosen(arguments: Namespace) -> dict[str, list[str]]:
    """The parts, data sets and weightings that are asked for, each once.

    Raises:
        UnknownName: there is no such one.
    """
    known = {
        "parts": (list(SHARES), "part"),
        "data": (EMBEDDED, "embedded data set"),
        "weightings": (OURS, "weighting"),
    }
    return {
        option: list(dict.fromkeys(lookup(names, kind, name) for name in getattr(arguments, option)))
        for option, (names, kind) in known.items()
    }


def _request(
    arguments: Namespace, chosen: Mapping[str, list[str]], device: torch.device, counter: WaitCounter | None
) -> CheckRequest:
    chip = chip_name(device)
    return CheckRequest(
        machine=arguments.machine or machine_slug(f"cpu {chip}" if device.type == "cpu" else chip) or device.type,
        device=device,
        **chosen,
        seconds=arguments.seconds,
        size=arguments.size or ("cpu" if device.type == "cpu" else "paper"),
        places=Places(Path(arguments.data_root), arguments.cache_dir),
        counter=counter,
    )


def _report(record: HardwareRecord, out: Path) -> int:
    """Writes the record and its page, and prints what they say in short; the exit code."""
    path = write_hardware(out, record)
    page = write_hardware_page(out, record)
    for line in summary_lines(record):
        print(line)
    print(f"Report: {page}. To send it, attach {path} to a report on this project's page of issues.")
    return 1 if record.failed else 0


if __name__ == "__main__":
    sys.exit(main())
