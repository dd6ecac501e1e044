"""The seeds of tuning trials, which are never reported: of the trials beside results, and of those of merged runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.records.all_records import read_records
from bench.records.files import atomic_write_text, is_file, storage_error
from bench.records.plain_text import named
from bench.records.reading import Damaged, is_there, read_json
from bench.records.record import LARGEST_SEED, Record
from bench.records.store import SEED_PREFIX, RecordError, run_folders, run_name
from bench.records.trials import TRIALS, TUNING, read_trials

MERGED_SEEDS = "trial-seeds.json"  # of trials whose records lie elsewhere, beside the data sets
_KEY = "trial_seeds"


def holds_trials(results: Path) -> bool:
    """Whether a folder of results is one of trials: by its name, that of what a link leads to, or by its table."""
    return TUNING in (results.absolute().name, results.resolve().name) or is_file(results / TRIALS)


def are_trials(records: Iterable[Record]) -> bool:
    """Whether these are trials, by what they say of themselves, and nothing else."""
    return {record.trial for record in records} == {True}


def trials_among(records: Sequence[Record]) -> str:
    """Which runs are trials among others that are reported, in words; "" if none is, or if all are."""
    names = [run_name(*record.key) for record in records if record.trial]
    if not 0 < len(names) < len(records):
        return ""
    return f"expected runs that are reported, found trials of `bench.tune` among them: {named(names)}; move them away"


def read_unmixed(results: Path) -> list[Record]:
    """As `read_records`; raises RecordError for trials among other runs, too, unless the folder is one of trials."""
    records = read_records(results)
    if not holds_trials(results) and (error := trials_among(records)):
        raise RecordError(f"{results}: {error}.")
    return records


def trial_seeds(results: Path) -> set[int]:
    """The seeds of all trials that these results know: of their table, of the folders of trials, and of merged runs.

    Raises:
        RecordError: one of these can't be read.
    """
    seeds = {run.seed for run in read_trials(results / TUNING / TRIALS)}
    errors: list[str] = []
    names = {folder.name.removeprefix(SEED_PREFIX) for folder in run_folders(results / TUNING, errors)}
    if errors:
        raise RecordError("\n".join(errors))
    return seeds | {int(name) for name in names if name.isascii() and name.isdigit()} | _merged_seeds(results)


def _merged_seeds(results: Path) -> set[int]:
    path = results / MERGED_SEEDS
    try:
        return set(_checked(read_json(path))) if is_there(path) else set()
    except Damaged as error:
        raise RecordError(f"{path}: {error}; restore it, or merge the files of runs again without it.") from error
    except OSError as error:
        raise RecordError(str(storage_error(path, error))) from error


def _checked(content: Any) -> list[int]:
    seeds = content.get(_KEY) if isinstance(content, dict) else None
    if not isinstance(seeds, list) or any(type(seed) is not int or not 0 <= seed <= LARGEST_SEED for seed in seeds):
        raise Damaged(f"expected a list of integers, {_KEY}, found something else")
    return seeds


def keep_seeds(results: Path, seeds: Iterable[int]) -> None:
    """Adds seeds of trials that lie elsewhere. The caller is the only writer of the results (`only_writer`).

    Raises:
        RecordError, StorageError: the seeds that are there can't be read, or the new ones written.
    """
    kept = sorted({*seeds, *_merged_seeds(results)})
    atomic_write_text(results / MERGED_SEEDS, json.dumps({_KEY: kept}) + "\n")
