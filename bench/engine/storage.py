"""Whether the records and checkpoints of runs can be written and read, looked at before anything trains."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from bench.engine.build import build_network
from bench.records.files import storage_error
from bench.records.store import CHECKPOINT, run_folder
from bench.records.system_errors import free_bytes, free_files, mount_point, nearest
from bench.spec.resolve import RunSpec

MIB = 2**20
# A record with its curve; positions of NORMAL take more, and short runs less.
RECORD_BYTES = 2**16
# The folders of a run, its files, and those that are written before they replace one of them.
FILES_OF_A_RUN = 8
# The network, that of the best epoch and the two moments of Adam, in float32.
CHECKPOINT_BYTES_PER_PARAMETER = 4 * 4


def storage_errors(specs: Sequence[RunSpec], results: Path, jobs: int) -> list[str]:
    """What will keep these runs from being recorded, one sentence for each place; empty if nothing is known.

    jobs: how many run at a time, each with a checkpoint, and a new one beside it while that is written.
    """
    folders = {run_folder(results, spec.data, spec.variant, spec.seed): spec for spec in specs}
    errors = [error for folder in folders for error in _access_errors(folder)]
    if not errors:
        disks: dict[int, list[Path]] = {}
        for folder in folders:
            disks.setdefault(os.stat(nearest(folder)).st_dev, []).append(folder)
        for some in disks.values():
            errors += _room_errors(some, [folders[folder] for folder in some], jobs)
    return list(dict.fromkeys(errors))


def checkpoint_bytes(spec: RunSpec) -> int:
    """About the size of a checkpoint."""
    settings = replace(spec.settings, backbone=replace(spec.settings.backbone, weights="none"))  # nothing is downloaded
    with torch.device("meta"):  # shapes alone
        network = build_network(replace(spec, settings=settings), torch.device("meta"))
    parameters = [*network.shared_parameters(), *network.heads.parameters()]
    return CHECKPOINT_BYTES_PER_PARAMETER * sum(parameter.numel() for parameter in parameters)


def _access_errors(folder: Path) -> Iterator[str]:
    """Why a run can't write into its folder, or not make it; or can't read the checkpoint that it has there."""
    place = nearest(folder)
    needed = os.W_OK | os.X_OK | (os.R_OK if place == folder else 0)
    if not place.is_dir():
        yield str(storage_error(place, OSError(errno.ENOTDIR, "")))
    elif not os.access(place, needed):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        yield str(storage_error(place, OSError(errno.EROFS if read_only else errno.EACCES, "")))
    checkpoint = folder / CHECKPOINT
    if os.path.lexists(checkpoint) and not os.access(checkpoint, os.R_OK):
        yield str(storage_error(checkpoint, OSError(errno.EACCES, "")))


def _room_errors(folders: Sequence[Path], specs: Sequence[RunSpec], jobs: int) -> Iterator[str]:
    """Whether a disk has too little room, in bytes or in files, for these runs."""
    place = mount_point(folders[0])
    files, needed_files = free_files(place), FILES_OF_A_RUN * len(folders)
    if files is not None and files < needed_files:
        yield f"{place}: expected room for {needed_files:,} files, found {files:,} (inodes); delete files there."
    kinds = {(spec.data, spec.settings.backbone, spec.settings.heads): spec for spec in specs}
    at_a_time = 2 * min(jobs, len(specs)) * max(checkpoint_bytes(spec) for spec in kinds.values())
    present = sum(path.stat().st_size for folder in folders if (path := folder / CHECKPOINT).is_file())
    needed, free = RECORD_BYTES * len(folders) + max(0, at_a_time - present), free_bytes(place)
    if free < needed:
        yield (
            f"{place}: expected {needed / MIB:,.1f} MiB free for records and checkpoints, found {free / MIB:,.1f} MiB; "
            "make room there, or use another --results."
        )
