"""What a command that trains is to do: its plan, or that of its shard."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from bench.cli.forced import ForcedRuns
from bench.cli.progress import DecodingProgress, run_title
from bench.launch.shards import Division, Shard, part_of
from bench.spec.planning import Again, Plan, Which, make_plan
from bench.spec.request import Request
from bench.spec.resolve import RunKey
from datasets.decoding.prepare import Preparation, preparing


@dataclass(frozen=True)
class TrainingCommand:
    """What the rounds of a command share.

    forced: how far it has come, with --force.
    division: which shard trains what, with --shard.
    """

    arguments: Namespace
    request: Request
    results: Path
    console: Console
    device: torch.device
    which: Which
    forced: ForcedRuns | None
    division: Division | None


def describe(plan: Plan, seconds: Mapping[RunKey, float | None], console: Console) -> None:
    """Prints the runs that would be trained, in their order. seconds: of each, as far as they are known."""
    for spec in plan.pending:
        settings = "".join(f" {key}={value}" for key, value in spec.overrides.items())
        known = seconds[spec.key]
        about = "" if known is None else f", about {known:.0f} s"
        console.print(f"would run {run_title(*spec.key)}, {spec.settings.train.epochs} epochs{about}{settings}")
    for spec in plan.waiting:
        console.print(f"would then run {run_title(*spec.key)}: {spec.label}, once its weights are known")
    waiting = f", {len(plan.waiting)} frozen twins that wait for other runs" if plan.waiting else ""
    again = f" ({len(plan.again)} of them again)" if plan.again else ""
    console.print(f"{len(plan.pending)} runs to train{again}, {len(plan.kept)} already kept{waiting}.")


def plan_of(command: TrainingCommand, again: Again) -> Plan:
    """The plan; decodes all data once, unless nothing may be made: invalid files stop the command before any training.

    Nothing is read into this process: workers map the decoded arrays into memory.
    """
    arguments, console = command.arguments, command.console
    make = not arguments.dry_run
    with DecodingProgress(console, only_bars=True) as decoding:
        how = Preparation(report=decoding, cache=arguments.cache_dir, allowed=make)
        with preparing(how):
            plan = make_plan(command.request, arguments.data_root, command.results, make, again)
    if command.division:
        plan = _own_part(plan, command.division, arguments.shard)
    for name in dict.fromkeys(spec.data for spec in plan.pending if spec.data in plan.folders):
        console.print(f"{name}: found in {plan.folders[name]}.")
    return plan


def _own_part(plan: Plan, division: Division, shard: Shard) -> Plan:
    """What a shard has of a plan, with remarks on what is left to the others, and on data sets found later."""
    own = part_of(plan, division, shard)
    unfinished = [*plan.pending, *plan.waiting]
    late = [spec for spec in unfinished if division.shard_of(spec) is None]
    left = len(unfinished) - len(late) - len(own.pending) - len(own.waiting)
    runs = len(own.pending) + len(own.waiting) + len(own.kept)
    others = f"{left} unfinished runs are left to the other shards" if left else "the other shards have finished theirs"
    remarks = [f"Shard {shard.index} of {shard.count}: {runs} of {division.runs} runs; {others}."]
    for name in dict.fromkeys(spec.data for spec in late):
        remarks.append(f"{name}: found after this command had begun; the same command trains its part afterwards.")
    return replace(own, remarks=[*plan.remarks, *remarks])
