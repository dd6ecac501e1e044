"""Tunes methods with equal numbers of trials: python -m bench.tune --data digits --methods ew cagrad --trials 12.

Trials are ordinary runs, on seeds that are not reported. The settings that are best on validation become a study file,
which `python -m bench.run --study FILE` runs.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.cli.options import guarded, lookup_name, plain_console, positive, random_seed, whole_number
from bench.cli.parser import CommandParser
from bench.cli.placement import worker_devices
from bench.cli.request import DEFAULT_SEEDS, add_how, assigned, results_folder
from bench.cli.request import add_what as add_runs
from bench.cli.training import TRAINING_ERRORS, add_training, train_request
from bench.engine.device import choose_device
from bench.forecasting.forecast import Machine, forecast
from bench.forecasting.report import as_text
from bench.records.record import LARGEST_SEED
from bench.records.trials import TRIALS, TUNING, write_trials
from bench.spec.lookup import lookup
from bench.spec.request import PlanError, Request
from bench.spec.settings import SpecError
from bench.spec.study import MOST_TRIALS, Study, load_study
from bench.tuning.sampler import BATCH, SAMPLERS, TunerUnavailable
from bench.tuning.studies import (
    FILE,
    study_of_methods,
    targets,
    tuned_study,
    with_known_data,
    with_settings,
    with_trials,
    write_study,
)
from bench.tuning.summary import summary
from bench.tuning.trials import Outcome, Search, Target, Trial, outcome, trial_runs
from datasets import DATASETS
from datasets.decoding.prepare import Preparation, preparing

DEFAULT_TRIALS, FIRST_SEED = 12, 1000
MOST_REPEATS = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """0: all trials have ended. 1: one of them failed. 2: bad input. 130: interrupted."""
    arguments = _parser().parse_args(argv)
    arguments.words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _tune(arguments), *TRAINING_ERRORS, SpecError, TunerUnavailable)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m bench.tune", description=__doc__)
    parser.set_defaults(command="bench.tune")
    add_runs(parser)
    how = parser.add_argument_group("how to tune")
    how.add_argument(
        "--methods", nargs="+", type=lookup_name, dest="method", metavar="NAME", help="the same as --method"
    )
    how.add_argument(
        "--trials", type=whole_number(1, MOST_TRIALS), metavar="N",
        help=f"of each row on each data set (default: {DEFAULT_TRIALS}, or those of the study)",
    )  # fmt: skip
    how.add_argument(
        "--repeats", type=whole_number(1, MOST_REPEATS), default=1, metavar="R", help="seeds of each trial (default: 1)"
    )
    how.add_argument(
        "--tuning-seed", type=random_seed, default=FIRST_SEED, metavar="N",
        help=f"the first seed of trials; none of them may be reported (default: {FIRST_SEED})",
    )  # fmt: skip
    how.add_argument(
        "--sampler", choices=SAMPLERS, default="qmc",
        help="quasi-random points, the same for all methods, or batches that follow from earlier scores (default: qmc)",
    )  # fmt: skip
    how.add_argument("--batch", type=positive, default=BATCH, metavar="N", help=f"of tpe (default: {BATCH})")
    how.add_argument(
        "--budget", type=positive, default=60, metavar="SECONDS", help="for timing steps with --dry-run (default: 60)"
    )
    add_training(add_how(parser))
    return parser


def _tune(arguments: Namespace) -> int:
    study = _study(arguments)
    results = results_folder(arguments, study)
    search = _search(arguments, study)
    everything = targets(study)
    chosen = [one for one in everything if one.data in _chosen_data(arguments, study)]
    console = plain_console()
    if arguments.dry_run:
        return _forecast(arguments, study, search, chosen, results / TUNING)
    code = _train(arguments, study, search, chosen, results / TUNING, console)
    outcomes = [outcome(one, search, results / TUNING) for one in everything]
    table = write_trials(results / TUNING / TRIALS, trial_runs(outcomes))
    if code > 1:
        return code
    for line in summary(outcomes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"Trials: {table}", soft_wrap=True)
    _write(arguments, study, search, outcomes, results, console)
    return code


def _study(arguments: Namespace) -> Study:
    """The study to tune, with the settings, seeds and numbers of trials of the command line."""
    if arguments.arch or arguments.weighting:
        raise PlanError("Expected --method or --study, found --arch or --weighting; tune a pair as a row of a study.")
    if arguments.study:
        if arguments.method:
            raise PlanError("Expected one of --study and --methods, found both.")
        study = load_study(arguments.study)
        if study.trial_seeds:
            raise PlanError(f"--study {arguments.study}: expected a study to tune, found one that is tuned already.")
        study = with_known_data(with_trials(study, arguments.trials))
    elif arguments.data and arguments.method:
        trials, seeds = arguments.trials or DEFAULT_TRIALS, DEFAULT_SEEDS
        study = study_of_methods(arguments.method, arguments.data, trials, seeds)
    else:
        raise PlanError("Expected --data NAME with --methods NAME, or --study NAME; found neither.")
    study = with_settings(study, assigned(arguments))
    return study.model_copy(update={"seeds": arguments.seeds or study.seeds})


def _chosen_data(arguments: Namespace, study: Study) -> list[str]:
    """The data sets to tune on now: all of the study, or those of --data."""
    names = [lookup(DATASETS, "data set", name) for name in arguments.data]
    if unknown := [name for name in names if name not in study.data]:
        raise PlanError(f"--data: expected data sets of the study, found {unknown[0]}; known: {', '.join(study.data)}.")
    return names or study.data


def _search(arguments: Namespace, study: Study) -> Search:
    """Raises PlanError if a seed of the trials is too large, or one of those that are reported."""
    seeds = tuple(arguments.tuning_seed + place for place in range(arguments.repeats))
    if arguments.sampler == "tpe" and (arguments.shard or arguments.launcher == "slurm"):
        raise PlanError("--sampler: expected qmc with shards, found tpe, whose trials follow from all earlier scores.")
    if seeds[-1] > LARGEST_SEED:
        raise PlanError(f"--tuning-seed: expected seeds of at most {LARGEST_SEED:,}, found {seeds[-1]:,}.")
    if both := sorted({*seeds} & {*study.seeds}):
        raise PlanError(
            f"--tuning-seed: expected seeds of trials that are not reported, found {both[0]} among the reported seeds; "
            "choose others."
        )
    return Search(arguments.sampler, arguments.batch, seeds)


def _train(
    arguments: Namespace, study: Study, search: Search, chosen: Sequence[Target], folder: Path, console: Console
) -> int:
    """Trains all trials that have no record, batch after batch; the highest of the exit codes."""
    code, requested = 0, set[tuple[int, str, int]]()
    while code <= 1:
        known = [trial for one in chosen for trial in outcome(one, search, folder).known]
        # A trial that failed is tried again by the next call, not by the next batch.
        new = [trial for trial in known if _key(trial) not in requested]
        if not new:
            break
        requested |= {_key(trial) for trial in new}
        code = max(code, train_request(arguments, _request(study, search, new), folder, console))
    return code


def _key(trial: Trial) -> tuple[int, str, int]:
    return trial.target.place, trial.target.data, trial.number


def _request(study: Study, search: Search, trials: Sequence[Trial]) -> Request:
    """Trials as rows, the first of all methods before the second of any."""
    rows = [trial.row for trial in sorted(trials, key=lambda trial: trial.number)]
    data = [name for name in study.data if any(name in row.data for row in rows)]
    return Request(rows, data, search.seeds, study.only_found, trials=True)


def _forecast(arguments: Namespace, study: Study, search: Search, chosen: Sequence[Target], folder: Path) -> int:
    """Prints what all trials cost; trials that depend on scores are counted as quasi-random ones."""
    points = Search("qmc", search.batch, search.seeds)
    trials = [trial for one in chosen for trial in outcome(one, points, folder).known]
    request = _request(study, search, trials)
    device = choose_device(arguments.device)
    machine = Machine(device, arguments.threads, len(worker_devices(arguments, device, request)))
    how = Preparation(cache=arguments.cache_dir, allowed=False)
    with Console(stderr=True).status("reading records") as status, preparing(how):
        found = forecast(request, arguments.data_root, folder, machine, arguments.budget, status.update)
    print(f"{len(trials)} trials of {len(chosen)} rows, with {len(search.seeds)} seeds each.")
    print(as_text(found))
    return 0


def _write(
    arguments: Namespace, study: Study, search: Search, outcomes: Sequence[Outcome], results: Path, console: Console
) -> None:
    """Writes the tuned study, for the data sets on which all trials have ended."""
    tuned = tuned_study(study, outcomes, search.seeds)
    if late := [name for name in study.data if name not in tuned.data]:
        console.print(f"Not in the tuned study, since trials are missing: {', '.join(late)}.")
    if tuned.data:
        path = write_study(results / FILE, tuned)
        elsewhere = f" --results {results}" if arguments.results else ""
        console.print(
            f"Tuned settings: {path}; run them: python -m bench.run --study {path}{elsewhere}", soft_wrap=True
        )


if __name__ == "__main__":
    raise SystemExit(main())
