"""A worker process that decodes: python -I decoder.py, with sys.path as JSON. Requests and replies are pickles.

It imports only what decoding needs. The package itself would import torch, half a GiB for every process.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from datasets.decoding.prepared import Digests, Layout
    from datasets.decoding.rows import Chunk


@dataclass(frozen=True)
class Output:
    """The file that decoded rows are written to."""

    path: Path
    layout: Layout


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor for reading and writing an existing file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def decode(output: Output, chunk: Chunk) -> Digests:
    """Decodes and writes the rows of a chunk; returns their digests (n, 16).

    Raises:
        DataError: a row can't be read or differs from the layout. OSError: a row can't be written.
    """
    import numpy as np

    from datasets.decoding.prepared import DIGEST_BYTES, digest_of, write_row
    from datasets.decoding.rows import valid_rows
    from datasets.errors import DataError

    shape, dtype = output.layout.shape[1:], output.layout.dtype
    digests = []
    with opened(output.path) as descriptor:
        for row, (place, values) in zip(chunk.rows.tolist(), valid_rows(chunk), strict=True):
            if values.shape != shape:
                raise DataError(
                    f"{place}: expected {shape} like the others, found {values.shape}; {chunk.if_shapes_differ}."
                )
            if values.dtype != dtype:
                raise DataError(f"{place}: expected {dtype} like the others, found {values.dtype}; replace the file.")
            content = np.ascontiguousarray(values).data.cast("B")
            write_row(descriptor, output.layout, row, content)
            digests.append(digest_of(content))
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Replies to each (output, chunk) with its digests, or with the error of data or disk, until the input ends."""
    from datasets.errors import DataError

    while True:
        try:
            output, chunk = pickle.load(requests)
        except EOFError:
            return
        try:
            reply: Digests | Exception = decode(output, chunk)
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
