"""What is said of data that is absent or faulty; without torch, since processes that decode images need none."""

from __future__ import annotations

from pathlib import Path


class DataError(Exception):
    """Data that is absent or not as it should be; the message says what was expected, found, and what to do."""


class DataMissing(DataError):
    """The data set is not where it was looked for."""


def forbidden(path: Path) -> DataError:
    """What to say of a file or folder that exists and may not be read."""
    return DataError(f"{path}: expected to be allowed to read it, found that it is not; change its permissions.")
