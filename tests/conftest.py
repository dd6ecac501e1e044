"""What the tests share: one thread, and the embedded data, made once."""

from __future__ import annotations

import fcntl
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from data_trees import DOMAINS, Trees, write_celeba, write_nyuv2, write_office

import bench  # noqa: F401  (puts our `datasets` first)
from datasets import obtain


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the three embedded data sets, made once and shared by all workers of a session."""
    session = tmp_path_factory.getbasetemp()
    names = ["digits", "rooms", "faces"]
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        session = session.parent
        if int(worker.removeprefix("gw")) % 2:
            names.reverse()  # so that two workers make different data sets at the same time
    for name in names:
        with (session / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            obtain(name, session / "embedded")
    return session / "embedded"


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    """One tree of each data set, which no test may change."""

    @cache
    def tree(name: str) -> Path:
        root = tmp_path_factory.mktemp(name)
        if name in DOMAINS:
            write_office(root, name)
        else:
            {"nyuv2": write_nyuv2, "celeba": write_celeba}[name](root)
        return root

    return tree
