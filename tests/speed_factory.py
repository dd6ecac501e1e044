"""Made-up measurements of steps, for the tests of what only reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.records.speed import BASELINE, OURS, Cell, Passes, Series, SpeedRecord, WorkloadRecord


def make_workload(key: str = "office", series: Series = "", **fields: Any) -> WorkloadRecord:
    """Any field of `WorkloadRecord` can be given."""
    values: dict[str, Any] = {
        "label": "four tasks, an input each",
        "data": "officehome",
        "tasks": 4,
        "inputs": 4,
        "batch_size": 8,
        "image_size": (96, 64),
        "parameters": 11_176_512,
    }
    return WorkloadRecord.model_validate({**values, "key": key, "series": series, **fields})


def make_cell(
    method: str, candidate: str, milliseconds: Sequence[float], passes: Passes = "per task", **fields: Any
) -> Cell:
    """A cell of the workload "office"; the method's label is its key in capitals."""
    values: dict[str, Any] = {"workload": "office", "label": method.upper(), "seconds": [t / 1e3 for t in milliseconds]}
    return Cell(**{**values, "method": method, "candidate": candidate, "passes": passes, **fields})


def make_speed(cells: Sequence[Cell], workloads: Sequence[WorkloadRecord] = (), **fields: Any) -> SpeedRecord:
    """On the workload "office" where no other is given."""
    values: dict[str, Any] = {
        "machine": "bench-1",
        "device": "cpu",
        "threads": 2,
        "rounds": max((len(cell.seconds) for cell in cells), default=0),
        "size": "cpu",
        "settings": {"train.jacobian": "looped"},
        "environment": {"cpu": "a CPU", "torch": "2.14", "commit": "0123abc"},
    }
    return SpeedRecord(**{**values, "workloads": list(workloads or [make_workload()]), "cells": list(cells), **fields})


def example_cells() -> list[Cell]:
    """Three rounds, the second of which was disturbed: all took twice as long."""
    return [
        make_cell("", BASELINE, [8, 16, 8], "one", label=""),
        make_cell("", BASELINE, [20, 40, 20], label=""),
        make_cell("ew", OURS, [10, 20, 10], "one", peak_mib=100),
        make_cell("ew", "LibMTL", [15, 30, 15], "one", peak_mib=120),
        make_cell("ew", "TorchJD", [12, 24, 12], "one"),
        make_cell("mgda", OURS, [18, 36, 18], peak_mib=200),
        make_cell("mgda", "LibMTL", [36, 36, 72], peak_mib=190),
        make_cell("mgda", "TorchJD", [], error="ValueError: expected one group."),
        make_cell("cagrad", OURS, [30, 50, 40], peak_mib=210),
        make_cell("cagrad", "LibMTL", [30, 75, 80], peak_mib=230),
        make_cell("normal", OURS, [14, 28, 14], "one", label="NORMAL"),
    ]


def series_record() -> SpeedRecord:
    """EW and MGDA of one, four and sixteen tasks: MGDA's steps grow with them, and ours stay at half of LibMTL's."""
    workloads = [make_workload(f"m{m}", "tasks", tasks=m, inputs=1) for m in (16, 1, 4)]
    cells = []
    for workload in workloads:
        m, key = workload.tasks, workload.key
        cells += [
            make_cell("", BASELINE, [4, 4], "one", label="", workload=key),
            make_cell("", BASELINE, [4 * m, 5 * m], label="", workload=key),
            make_cell("ew", OURS, [5, 5], "one", workload=key, peak_mib=50),
            make_cell("ew", "LibMTL", [10, 10], "one", workload=key, peak_mib=60),
            make_cell("mgda", OURS, [4 * m, 6 * m], workload=key, peak_mib=50 * m),
            make_cell("mgda", "LibMTL", [8 * m, 12 * m], workload=key, peak_mib=60 * m),
        ]
    return make_speed(cells, workloads)
