"""Errors about data that is absent or invalid. Imports no torch, since processes that decode images need none."""

from __future__ import annotations

from pathlib import Path


class DataError(Exception):
    """Data that is absent or invalid. The message says what was expected, what was found, and what to do."""


class DataMissing(DataError):
    """The data set was not found."""


class NotPrepared(DataError):
    """Files that are not decoded yet, or have changed since, where nothing may be decoded."""


def forbidden(path: Path) -> DataError:
    """The error for a file or folder that exists and may not be read."""
    return DataError(f"{path}: expected permission to read it, found none; change its permissions.")
