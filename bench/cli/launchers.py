"""The options that say where runs train: on this machine, in a shard, on a Ray cluster or as jobs of SLURM."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError, Namespace, _ArgumentGroup
from collections.abc import Mapping, Sequence

from bench.cli.options import lookup_name, whole_number
from bench.launch.cluster import RayOptions, SlurmOptions
from bench.launch.shards import Shard
from bench.spec.limits import MOST_PROCESSES, MOST_TIMES
from bench.spec.request import PlanError
from bench.spec.shown import shown

LAUNCHERS = ("local", "ray", "slurm")
DEFAULT_MINUTES = 60
# SLURM may send its signal a minute early, and the notice before that: a shorter job might have no time to train.
LEAST_MINUTES = 2
# Options that belong to some launchers only, with the number of words that follow; None for any number.
_OF_SLURM: Mapping[str, int | None] = {"--partition": 1, "--time": 1, "--slurm": None, "--wait": 0}
_OF_RAY: Mapping[str, int | None] = {"--address": 1}


def add_launchers(how: _ArgumentGroup) -> None:
    """Adds the options on where runs train."""
    how.add_argument(
        "--shard", type=shard, metavar="i/n", help="train only the i-th of n parts of the runs, for n machines"
    )
    how.add_argument(
        "--launcher", choices=LAUNCHERS, default="local",
        help="this machine, a Ray cluster or jobs of SLURM (extra cluster; default: local)",
    )  # fmt: skip
    how.add_argument(
        "--address", type=lookup_name, metavar="ADDR",
        help="ray: a running cluster, or auto (default: $RAY_ADDRESS, else a cluster of this machine alone)",
    )  # fmt: skip
    how.add_argument(
        "--partition", type=lookup_name, metavar="NAME", help="slurm: the partition (default: SLURM's own)"
    )
    how.add_argument(
        "--time", type=whole_number(LEAST_MINUTES, MOST_TIMES), metavar="MINUTES",
        help=f"slurm: after which a job saves its runs and is queued again (default: {DEFAULT_MINUTES})",
    )  # fmt: skip
    how.add_argument(
        "--slurm", nargs="+", action="extend", type=sbatch_option, metavar="KEY=VALUE",
        help="slurm: further options of sbatch, such as cpus-per-task=4 mem=8G gres=gpu:1",
    )  # fmt: skip
    how.add_argument("--wait", action="store_true", help="slurm: wait until all jobs have ended, and say what is left")


def shard(text: str) -> Shard:
    """Parses "i/n"."""
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    index, count = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= index <= count <= MOST_PROCESSES:
        raise ArgumentTypeError(f"expected i/n with 1 ≤ i ≤ n ≤ {MOST_PROCESSES:,}, such as 1/8, found {shown(text)}")
    return Shard(index, count)


def sbatch_option(text: str) -> tuple[str, str]:
    """Parses an option of sbatch, "key=value"."""
    found = re.fullmatch(r"([a-z][a-z-]*)=(\S+)", text)
    if not found:
        raise ArgumentTypeError(f"expected an option of sbatch as key=value, such as mem=8G, found {shown(text)}")
    return found[1], found[2]


def check_launcher(arguments: Namespace) -> None:
    """Raises PlanError for options that don't go together."""
    for launcher, options in (("slurm", _OF_SLURM), ("ray", _OF_RAY)):
        given = [option for option in options if getattr(arguments, option[2:].replace("-", "_"))]
        if given and arguments.launcher != launcher:
            raise PlanError(f"{given[0]}: expected --launcher {launcher}, found --launcher {arguments.launcher}.")
    if arguments.launcher == "slurm" and arguments.shard:
        raise PlanError("--shard: expected none with --launcher slurm, whose jobs are the shards; use --jobs N.")
    if arguments.launcher == "slurm" and not arguments.jobs:
        raise PlanError("--launcher slurm: expected --jobs N, the number of jobs, found none.")
    reserved = {"time": "--time", "partition": "--partition", "array": "--jobs", "signal": "--time"}
    for key, _ in arguments.slurm or ():
        if key in reserved:
            raise PlanError(f"--slurm {key}: expected {reserved[key]} instead, which sets it.")


def ray_options(arguments: Namespace) -> RayOptions:
    return RayOptions(arguments.address or "", arguments.jobs, arguments.per_device or 1)


def slurm_options(arguments: Namespace) -> SlurmOptions:
    minutes = arguments.time or DEFAULT_MINUTES
    return SlurmOptions(arguments.jobs, minutes, arguments.partition or "", dict(arguments.slurm or ()))


def without_launcher(words: Sequence[str]) -> list[str]:
    """The words of a command without those that say where it runs: what each job of SLURM repeats."""
    options = {"--launcher": 1, "--jobs": 1, **_OF_RAY, **_OF_SLURM}  # --per-device is for each job
    kept: list[str] = []
    skip: int | None = 0
    for word in words:
        name, equals, _ = word.partition("=")
        if name in options:
            skip = 0 if equals else options[name]
        elif skip is None and not word.startswith("--"):
            continue
        elif skip:
            skip -= 1
        else:
            skip = 0
            kept.append(word)
    return kept
