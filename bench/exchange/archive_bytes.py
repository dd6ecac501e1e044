"""A file that is written only to compare it with one that is there, byte for byte."""

from __future__ import annotations

import io
import os
from typing import IO, Any


class ComparedFile(io.RawIOBase):
    """Takes what is written and compares it with the file `expected`. What is written twice counts as the second time.

    `ZipFile` writes the head of each entry twice: the checksum is known after the content only.
    """

    def __init__(self, expected: IO[bytes]) -> None:
        super().__init__()
        self._expected = expected
        self._place = self._end = 0
        self._differing: set[tuple[int, int]] = set()  # place and length of writes

    def write(self, data: Any) -> int:
        written = bytes(data)
        self._expected.seek(self._place)
        block = (self._place, len(written))
        if self._expected.read(len(written)) == written:
            self._differing.discard(block)
        else:
            self._differing.add(block)
        self._place += len(written)
        self._end = max(self._end, self._place)
        return len(written)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def is_same(self) -> bool:
        """Whether the whole file `expected` is what was written."""
        return not self._differing and self._expected.seek(0, os.SEEK_END) == self._end
