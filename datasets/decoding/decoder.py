"""A worker process that decodes: python -I decoder.py, with sys.path as JSON. Requests and replies are pickles.

It imports only what decoding needs. The package itself would import torch, half a GiB for every process.
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
    """Files to decode, and the array to write them to.

    paths: one file per row of the array; in a part of a job, only those of its rows.
    load: decodes one file.
    part: the file of the array.
    """

    paths: Sequence[Path]
    load: Callable[[Path], Array]
    part: Path
    layout: Layout

    def only(self, rows: Rows) -> Job:
        """The same job with only the paths of these rows."""
        return replace(self, paths=[self.paths[row] for row in rows.tolist()])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor for reading and writing an existing file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def decode(job: Job, rows: Rows) -> None:
    """Decodes job.paths into these rows.

    Raises:
        DataError: a file can't be read or differs from the layout. OSError: a row can't be written.
    """
    from datasets.decoding.prepared import write_row
    from datasets.errors import DataError

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
    """Replies to each (job, rows) with None, or with the error of data or disk, until the input ends."""
    from datasets.errors import DataError

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
    package = ModuleType("datasets")  # replaces the package, which would import torch
    package.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["datasets"] = package
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what a library prints must not mix with the replies
        from datasets.decoding.decoder import serve as serve_requests

        serve_requests(sys.stdin.buffer, replies)


if __name__ == "__main__":
    _main()
