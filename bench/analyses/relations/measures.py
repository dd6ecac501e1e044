"""What bench.relations compares: positions, gradient cosines and label correlations of finished runs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas
import torch
from pydantic import TypeAdapter, ValidationError

from bench.analyses.relations.agreement import Measure, Numbers, Relations, TaskMeasure, relate
from bench.records.all_records import read_records
from bench.records.reading import Damaged, in_one_line, is_there
from bench.records.record import Record
from bench.records.same_data import same_data
from bench.records.store import COSINES, CURVE, RECORD, RecordError, run_folder, run_name
from bench.reporting.differences import METHOD_SECTIONS, SHARED_VERSIONS, seed_differences
from bench.spec.lookup import lookup
from datasets import DATASETS, obtain
from datasets.chosen_tasks import with_tasks
from datasets.contract import DataMissing, DataSettings
from datasets.fingerprint import fingerprint
from datasets.losses import binary_cross_entropy

COMMAND = "python -m bench.run --study relations"


def runs_with_cosines(results: Path, names: Sequence[str]) -> dict[str, list[Record]]:
    """By data set with such a run of NORMAL: finished runs of NORMAL and EW that logged gradient cosines.

    Raises:
        RecordError: there are none, or a record can't be read.
        UnknownName: a name fits none of the records.
    """
    records = read_records(results)
    known = dict.fromkeys(record.data for record in records)
    chosen = [lookup(known, "data set among the records", name) for name in names if known] or list(known)
    usable = [r for r in records if r.status == "done" and r.settings.get("train", {}).get("cosines_every")]
    found = {name: [r for r in usable if r.data == name and r.method in ("normal", "ew")] for name in chosen}
    found = {name: runs for name, runs in found.items() if any(run.method == "normal" for run in runs)}
    if not found:
        raise RecordError(
            f"{results}: expected finished runs of NORMAL with train.cosines_every > 0, found none among "
            f"{len(records)} records; run `{COMMAND} --results {results}` first."
        )
    return found


def related(results: Path, runs: Sequence[Record], data_root: Path) -> Relations:
    """All comparisons of one data set.

    Raises:
        RecordError: the runs of NORMAL have different settings, or a run lacks its cosines.
    """
    normal = {run.seed: run for run in runs if run.method == "normal"}
    first = next(iter(normal.values()))
    variants = dict.fromkeys(run.variant for run in runs if run.method == "normal")
    differing = [", ".join(variants)] if len(variants) > 1 else seed_differences(list(normal.values()))
    if differing:
        raise RecordError(
            f"{results / first.data}: expected runs of NORMAL that can be averaged, found {differing[0]}; keep those "
            "of one kind below --results and move the others away."
        )
    ew = {
        run.seed: run
        for run in runs
        if run.method == "ew" and _shared(run) == _shared(first) and same_data(run, normal.get(run.seed, first))
    }
    tasks = {task.key: task.label for task in first.tasks}
    positions = {seed: _positions(run, results) for seed, run in normal.items()}
    no_ew = f"no finished run of EW with the settings and data of NORMAL; run {COMMAND} --data {first.data}"
    phi = _label_correlations(first, data_root)
    missing, values = (phi, {}) if isinstance(phi, str) else ("", dict.fromkeys(positions, phi))
    measures = (
        Measure("cosine_normal", "Gradient cosine, NORMAL", _cosines(results, normal)),
        Measure("cosine_ew", "Gradient cosine, EW", _cosines(results, ew), missing="" if ew else no_ew),
        Measure("label_correlation", "Label correlation φ", values, missing),
        Measure(
            "label_association", "Label association |φ|", {seed: abs(phi) for seed, phi in values.items()}, missing
        ),
    )
    return relate(
        first.data,
        first.labels.data,
        tasks,
        positions,
        measures,
        (_accuracy(first, ew, no_ew), TaskMeasure("Last training loss of NORMAL", _last_losses(results, normal))),
        _remarks(first),
    )


def _remarks(run: Record) -> list[str]:
    if run.kind == "single-input":
        return []
    return [
        "Tasks share no image here, so the gradients of two tasks come from different images. Cosines of such "
        "gradients are mostly noise; read their reliability before their correlations."
    ]


def _accuracy(first: Record, ew: Mapping[int, Record], no_ew: str) -> TaskMeasure:
    """EW's test accuracy of every task (m,) by seed: how easy a task is without positions."""
    title = "Test accuracy of EW"
    if first.selection != "accuracy":
        return TaskMeasure(title, {}, "tasks have different metrics, which can't be ranked")
    keys = [(task.key, task.metrics[0].key) for task in first.tasks]
    found = {seed: np.array([run.test[task][metric] for task, metric in keys]) for seed, run in ew.items()}
    return TaskMeasure(title, found, "" if found else no_ew)


def _last_losses(results: Path, runs: Mapping[int, Record]) -> dict[int, Numbers]:
    """By seed, the training loss of every task (m,) in the last epoch."""
    found = {}
    for seed, run in runs.items():
        path = run_folder(results, run.data, run.variant, seed) / CURVE
        columns = [f"train/{task.key}" for task in run.tasks]
        found[seed] = _table(path, columns, run, results)[-1]
    return found


def _table(path: Path, columns: Sequence[str], run: Record, results: Path) -> Numbers:
    """Columns (rows, columns) of a CSV file of a run, at least one row.

    Raises:
        RecordError: it lacks them.
    """
    try:
        if not is_there(path):
            raise Damaged("expected a file, found none")
        found = pandas.read_csv(path)[list(columns)].to_numpy(dtype=np.float64)
        if not len(found):
            raise Damaged("expected rows, found none")
    except (OSError, KeyError, ValueError) as error:
        raise RecordError(
            f"{path}: expected {columns[0]} and the like in its columns, found {type(error).__name__}; delete the "
            f"folder of the run, then run `{COMMAND} --data {run.data} --results {results}`."
        ) from error
    return np.asarray(found)


def _positions(run: Record, results: Path) -> Numbers:
    """The positions of all tasks (m,).

    Raises:
        RecordError: there are not as many finite ones as tasks, or fewer than two.
    """
    found = np.array([run.positions.get(task.key, np.nan) for task in run.tasks])
    if len(found) < 2 or not np.isfinite(found).all():
        folder = run_folder(results, run.data, run.variant, run.seed)
        raise RecordError(
            f"{folder / RECORD}: expected positions of two tasks or more, found {run.positions or 'none'}; move its "
            "folder away and run it again."
        )
    return found


def _shared(run: Record) -> Mapping[str, object]:
    sections = {name: section for name, section in run.settings.items() if name not in METHOD_SECTIONS}
    return {**sections, **{name: run.versions.get(name) for name in SHARED_VERSIONS}}


def _cosines(results: Path, runs: Mapping[int, Record]) -> dict[int, Numbers]:
    """By seed, the cosine of every pair of task gradients (pairs,), averaged over training."""
    found = {}
    for seed, run in runs.items():
        path = run_folder(results, run.data, run.variant, seed) / COSINES
        pairs = ["|".join(keys) for keys in itertools.combinations([task.key for task in run.tasks], 2)]
        found[seed] = np.nanmean(_table(path, pairs, run, results), axis=0)
    return found


def _label_correlations(record: Record, data_root: Path) -> Numbers | str:
    """φ of every pair of tasks (pairs,) on the training images, or why there is none."""
    info = DATASETS[lookup(DATASETS, "data set", record.data)]
    if info.kind != "single-input" or any(task.loss is not binary_cross_entropy for task in info.tasks):
        return "needs binary labels of the same images in every task"
    try:
        folder = obtain(record.data, data_root)
    except DataMissing:
        return f"data set not found; python -m bench.data how {record.data} says where to get it"
    try:
        settings = TypeAdapter(DataSettings).validate_python(record.settings.get("data", {}))
    except ValidationError as error:
        raise RecordError(f"{run_name(*record.key)}: settings.data: {in_one_line(error)}; run it again.") from error
    info = with_tasks(info, settings.tasks)
    splits = info.read(folder, settings)
    if record.fingerprint and fingerprint(splits) != record.fingerprint:
        return "the data set found is not that of the runs"
    if splits.provenance.get("digest") != record.splits.get("digest"):
        return "the data set found has another split than that of the runs"
    (images,) = splits.train
    labels = np.stack(
        [torch.cat([*images.target_batches(task, len(images))]).numpy() for task in range(len(info.tasks))]
    )
    return phi_coefficients(labels.astype(np.float64))


def phi_coefficients(labels: Numbers) -> Numbers:
    """Pearson's φ (pairs,), the correlation of binary labels (m, N); NaN beside a constant label."""
    centred = labels - labels.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        correlations = centred @ centred.T / np.outer(norms, norms)
    return np.asarray(correlations[np.triu_indices(len(labels), k=1)])
