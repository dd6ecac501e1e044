"""Deletes folders of runs, never one that a process trains. Of all else, only folders that are then empty."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.records.claim import Claim, ClaimLost, Holder, release, take
from bench.records.files import StorageError, storage_error
from bench.records.store import names_a_run

_EXPIRY = 60.0


def why_not_removed(folder: Path, results: Path) -> str:
    """Why something is no folder of a run in the results that may be deleted; "" if it is one."""
    if not names_a_run(folder):
        return (
            f"{folder}: expected the name of a run, data/variant/seed-<s> as bench.run writes it, found another; it "
            "stays. Delete it by hand if nobody needs it."
        )
    if folder.resolve() != results.resolve().joinpath(*folder.parts[-3:]):
        return f"{folder}: expected the folder of a run in {results}, found a link; remove the link itself."
    return ""


def remove_run(folder: Path, results: Path, why_kept: Callable[[Path], str] = lambda folder: "") -> str:
    """Deletes the folder of a run; returns why it could not, "" if it is gone.

    It is claimed first, so that no process trains it meanwhile, and renamed: a process that is killed in between leaves
    a folder that no command takes for a run.

    why_kept: looks at the claimed folder; a reason to keep it, or "".

    Raises:
        StorageError: the system refuses it.
    """
    if reason := why_not_removed(folder, results):
        return reason
    claim = take(folder, os.getpid(), _EXPIRY)
    if isinstance(claim, Holder):
        return f"{folder}: {claim.name} trains this run; it stays. Stop that command first."
    if reason := why_kept(folder):
        _give_back(claim)
        return reason
    aside = folder.with_name(f".removed-{secrets.token_hex(8)}")
    try:
        with claim.guard():
            folder.rename(aside)
        shutil.rmtree(aside)
        _remove_empty(folder.parent, folder.parent.parent)
    except ClaimLost as error:
        return f"{error}; it stays."
    except OSError as error:
        _give_back(claim)
        raise storage_error(folder, error) from error
    return ""


def _remove_empty(*folders: Path) -> None:
    """Deletes the folders of a row and of a data set that have lost their last run; any other file keeps them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _give_back(claim: Claim) -> None:
    try:
        release(claim)
    except (OSError, StorageError):
        return
