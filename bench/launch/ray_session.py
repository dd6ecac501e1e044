"""A command's session with a Ray cluster: one that runs, or one of this machine alone that ends with the command."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.launch.cluster import ClusterUnavailable
from bench.records.files import atomic_write_text

_LONGEST_ANSWER = 5.0


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A session with a cluster; one that starts here has its files in a private folder, and ends with the command."""
    elsewhere = address or os.environ.get("RAY_ADDRESS", "")
    if elsewhere:
        require_cluster(elsewhere)
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as private:
        here: dict[str, Any] = {"_temp_dir": private, "include_dashboard": False}
        where: dict[str, Any] = {"address": elsewhere} if elsewhere else here
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=_environment(), **where)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            place = f"at {elsewhere}" if elsewhere else "on this machine"
            raise ClusterUnavailable(f"Expected a Ray cluster {place}, found: {reason}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _environment() -> dict[str, Any]:
    """Of processes on nodes: they import this checkout, whatever is installed there."""
    paths = [str(ROOT), *([os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [])]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}


def require_cluster(address: str) -> None:
    """Raises ClusterUnavailable unless something answers there: Ray itself asks for minutes."""
    if address.startswith("ray://"):
        raise ClusterUnavailable(
            f"--address: expected the address of a cluster that this machine belongs to, found {address}; run the "
            "command on one of its nodes."
        )
    host, colon, port = address.rpartition(":")
    if not colon:  # "auto" or "local"
        return
    try:
        socket.create_connection((host, int(port)), _LONGEST_ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterUnavailable(
            f"Expected a Ray cluster at {address}, found: {error}; `ray status` says on its machines where it is."
        ) from error


@contextmanager
def marked(results: Path) -> Iterator[Path]:
    """A file by which a node sees that its folder of results is this one. Its name is new, so that no cache has it."""
    path = results / f".launch-{uuid.uuid4().hex}"
    atomic_write_text(path, "A running command; see docs/scale.md.\n")
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
