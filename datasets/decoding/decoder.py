"""A process that decodes: python -I decoder.py, with sys.path as JSON. Requests come and replies go as pickles.

It imports nothing that decoding doesn't need. The package itself would bring torch, half a GiB for every process.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from datasets.decoding.prepared import Array, Layout, Rows


@dataclass(frozen=True)
class Job:
    """Files, and the array that they become; a row of it for each, at first."""

    paths: Sequence[Path]
    load: Callable[[Path], Array]
    part: Path
    layout: Layout

    def only(self, rows: Rows) -> Job:
        """The same with the paths of these rows."""
        return replace(self, paths=[self.paths[row] for row in rows.tolist()])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor to read and write a file that exists."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def decode(job: Job, rows: Rows) -> None:
    """Writes these rows, whose files are all of job.paths.

    Raises:
        DataError: a file can't be read or differs from the layout. OSError: a row can't be written.
    """
    from datasets.decoding.prepared import write_row
    from datasets.faults import DataError

    shape, dtype = job.layout.shape[1:], job.layout.dtype
    with opened(job.part) as descriptor:
        for path, row in zip(job.paths, rows.tolist(), strict=True):
            values = job.load(path)
            if values.shape != shape:
                raise DataError(
                    f"{path}: expected {shape} like the others, found {values.shape}; "
                    "set `data.image_size` to bring all images to one size."
                )
            if values.dtype != dtype:
                raise DataError(f"{path}: expected {dtype} like the others, found {values.dtype}; replace the file.")
            write_row(descriptor, job.layout, row, values)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answers (job, rows) with None, or with what is wrong with the data or the disk, until there are no more."""
    from datasets.faults import DataError

    while True:
        try:
            job, rows = pickle.load(requests)
        except EOFError:
            return
        reply: Exception | None = None
        try:
            decode(job, rows)
        except (DataError, OSError) as error:
            reply = error
        pickle.dump(reply, replies)
        replies.flush()


def _main() -> None:
    sys.path[:] = json.loads(sys.argv[1])
    package = ModuleType("datasets")  # in the place of one that would import torch
    package.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["datasets"] = package
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # whatever a library prints must not stand among the replies
        from datasets.decoding.decoder import serve as serve_requests

        serve_requests(sys.stdin.buffer, replies)


if __name__ == "__main__":
    _main()
