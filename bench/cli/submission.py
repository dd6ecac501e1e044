"""Submits a command that trains to SLURM, as an array of shards."""

from __future__ import annotations

from bench.cli.launchers import slurm_options, without_launcher
from bench.cli.training_plan import TrainingCommand, plan_of
from bench.launch import slurm
from bench.spec.planning import Again, Plan


def submit(command: TrainingCommand, plan: Plan) -> bool:
    """Submits the command in shards. With --wait, returns when all jobs have ended, and says what is left.

    Returns whether nothing is left, as far as that is known.

    Raises:
        ClusterUnavailable: it can't be submitted. StorageError: logs can't be written.
    """
    arguments, results, console = command.arguments, command.results, command.console
    options = slurm_options(arguments)
    submission = slurm.submit([arguments.command, *without_launcher(arguments.words)], results, options)
    jobs = submission.jobs
    array = jobs[0].partition("_")[0]
    console.print(
        f"{len(plan.pending) + len(plan.waiting)} runs to train, {len(plan.kept)} already kept; submitted as "
        f"{len(jobs)} jobs of {options.minutes} min: {jobs[0]} to {jobs[-1]}. Logs: {submission.logs}\n"
        f"Follow them: python -m bench.runs status --results {results}; squeue -j {array}. Stop them: scancel {array}"
    )
    if not arguments.wait:
        return True
    slurm.wait_for(jobs)
    plan = plan_of(command, Again("none" if command.which == "all" else command.which))
    left = len(plan.pending) + len(plan.waiting)
    console.print(f"All jobs have ended. {len(plan.kept)} runs are kept, {left} are left.")
    return not left
