"""The options of bench.run and bench.plan, and the request that they describe."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench.cli.frozen import frozen_request, source_results
from bench.cli.options import (
    add_cache_dir,
    add_data_root,
    assignment,
    cores,
    folder,
    lookup_name,
    positive,
    processes,
    random_seed,
)
from bench.records.trial_seeds import holds_trials, trial_seeds
from bench.spec.lookup import UnknownName
from bench.spec.request import PlanError, Request
from bench.spec.settings import SpecError, compute_settings
from bench.spec.shown import shown
from bench.spec.study import Study, StudyRow, load_study, results_of
from methods import METHODS

DEFAULT_SEEDS = (0, 1, 2)


def add_what(parser: ArgumentParser) -> None:
    """Adds the options that select runs."""
    what = parser.add_argument_group("what to run")
    known = ", ".join(METHODS)
    what.add_argument(
        "--method", nargs="+", type=lookup_name, default=[], metavar="NAME", help=f"all (but frozen), or any of {known}"
    )
    what.add_argument(
        "--data", nargs="+", type=lookup_name, default=[], metavar="NAME", help="all, or names of data sets"
    )
    what.add_argument(
        "--study", type=lookup_name, metavar="NAME|FILE",
        help="a study of bench/spec/studies, or a .yaml file of one, instead of --method and --data",
    )  # fmt: skip
    what.add_argument("--arch", type=lookup_name, metavar="NAME", help="the architecture, instead of the method's own")
    what.add_argument(
        "--weighting", type=lookup_name, metavar="NAME", help="the weighting, instead of the method's own"
    )
    what.add_argument(
        "--from", type=folder, metavar="RUN", dest="source",
        help="with --method frozen: the folder of a row, results/<data>/<variant>, or of one of its seeds, whose mean "
        "weights are used as constants; data, seeds and results are its own unless given",
    )  # fmt: skip
    what.add_argument("--seeds", nargs="+", type=random_seed, metavar="N", help="default: 0 1 2")
    what.add_argument(
        "--set", nargs="+", action="extend", type=assignment, default=[], metavar="KEY=VALUE", dest="assignments"
    )
    what.add_argument("--epochs", type=positive, metavar="N", help="the same as --set train.epochs=N")
    what.add_argument(
        "--splits", type=folder, metavar="DIR", help="lists <domain>_<train|val|test>.txt; as --set data.splits=DIR"
    )


def add_how(parser: ArgumentParser, hardware: Sequence[str] = ()) -> _ArgumentGroup:
    """Adds the options on device, processes and folders; returns their group, for more options.

    hardware: names of accelerators that --device also knows.
    """
    how = parser.add_argument_group("how to run")
    elsewhere = f"a device of this machine, or one that is not here: {', '.join(hardware)}" if hardware else None
    how.add_argument(
        "--device", type=lookup_name, default="auto", metavar="|".join(("auto", "cpu", "cuda", *hardware[:1])),
        help=elsewhere,
    )  # fmt: skip
    how.add_argument(
        "--jobs", type=processes, metavar="N", help="parallel runs (default: one per core or process, one on a GPU)"
    )
    how.add_argument("--threads", type=processes, default=1, metavar="N", help="threads per run (default: 1)")
    how.add_argument(
        "--results", type=folder, metavar="DIR", help="records (default: results, for some studies a folder in it)"
    )
    add_data_root(how)  # type: ignore[arg-type]
    add_cache_dir(how)  # type: ignore[arg-type]
    return how


def requested(arguments: Namespace) -> tuple[Request, Path]:
    """The requested runs, and the folder of their records.

    Raises:
        PlanError: options are missing or contradict each other. UnknownName, StudyError: of the study.
        RecordError: of the run named by --from.
    """
    if arguments.source is not None:
        request = frozen_request(arguments, assigned(arguments))
        return request, _folder(arguments.results or source_results(arguments))
    study = load_study(arguments.study) if arguments.study else None
    return (_study_request(arguments, study) if study else _request(arguments)), results_folder(arguments, study)


def results_folder(arguments: Namespace, study: Study | None) -> Path:
    """The folder of the records; raises PlanError if it can't be one."""
    return _folder(arguments.results or results_of(study))


def _folder(results: Path) -> Path:
    """The folder; raises PlanError if it can't be one."""
    for place in (results, *results.parents):  # said once here, not once for each run
        if place.exists() and not place.is_dir():
            raise PlanError(f"--results: expected a folder, found a file at {place}; name another folder.")
    return results


def jobs_at_a_time(arguments: Namespace, device: torch.device, request: Request) -> int:
    """The number of parallel runs: --jobs, else as many as have a core for each process, or one on an accelerator."""
    if arguments.jobs or device.type != "cpu":
        return arguments.jobs or 1
    return max(1, cores() // processes_of_a_run(request))


def processes_of_a_run(request: Request) -> int:
    """The most processes that train one run of a request together."""
    processes = 1
    for row in request.rows:
        with suppress(SpecError, UnknownName):  # the plan reports what is wrong
            processes = max(processes, compute_settings(row.set).processes)
    return processes


def refuse_trials(request: Request, results: Path) -> None:
    """Refuses to train what is reported with a seed of the trials beside it, or among them.

    Raises:
        PlanError: it is so.
        RecordError, StorageError: the seeds of trials can't be read.
    """
    if holds_trials(results):
        raise PlanError(f"--results {results}: expected a folder of runs, found that of trials; use the one above it.")
    if both := sorted(trial_seeds(results) & {*request.seeds}):
        raise PlanError(
            f"--seeds: expected seeds that no trial of {results} had, found {both[0]}; choose others, or "
            "another --results."
        )


def assigned(arguments: Namespace) -> dict[str, Any]:
    """The settings of the command line; raises PlanError for one that is given twice with different values."""
    epochs = [("train.epochs", arguments.epochs)] if arguments.epochs else []
    splits = [("data.splits", str(arguments.splits))] if arguments.splits else []
    chosen: dict[str, Any] = {}
    for key, value in [*arguments.assignments, *epochs, *splits]:
        if key in chosen and chosen[key] != value:
            raise PlanError(f"{shown(key)}: expected one value, found {shown(chosen[key])} and {shown(value)}.")
        chosen[key] = value
    return chosen


def _study_request(arguments: Namespace, study: Study) -> Request:
    """The runs of a study, with the settings, data, seeds and methods of the command line instead of its own."""
    rows = study.rows
    pair = {"arch": arguments.arch, "weighting": arguments.weighting}
    if arguments.method or arguments.arch or arguments.weighting:
        if study.tables:
            raise PlanError(
                f"Expected none of --method, --arch, --weighting with --study {arguments.study}: its rows name their "
                "own. Use --data, --seeds, --epochs and --set with it."
            )
        rows = study.rows_of(arguments.method or study.methods)
        rows = [row.model_copy(update=pair) for row in rows]
    rows = [row.model_copy(update={"set": {**row.set, **assigned(arguments)}}) for row in rows]
    seeds = arguments.seeds or study.seeds
    if both := sorted({*seeds} & {*study.trial_seeds}):
        raise PlanError(f"--seeds: expected seeds that no trial of the tuning had, found {both[0]}; choose others.")
    if arguments.data:  # named data sets must exist
        return Request(rows, arguments.data, seeds)
    return Request(rows, study.data, seeds, study.only_found, study.otherwise)


def _request(arguments: Namespace) -> Request:
    if not arguments.data:
        raise PlanError(
            "Expected --data NAME (or --study NAME), found neither; `python -m bench.data list` shows them."
        )
    if not (arguments.method or arguments.arch or arguments.weighting):
        raise PlanError(f"Expected --method NAME, found none; known: all, {', '.join(METHODS)}.")
    rows = [
        StudyRow(method=name, arch=arguments.arch, weighting=arguments.weighting, set=assigned(arguments))
        for name in arguments.method or [None]
    ]
    return Request(rows, arguments.data, arguments.seeds or DEFAULT_SEEDS)
