"""What the tests share: one thread, and the embedded data, made once."""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from data_trees import DOMAINS, Trees, write_celeba, write_nyuv2, write_office
from threadpoolctl import threadpool_limits

from bench import ROOT  # importing it puts our `datasets` first
from datasets import obtain


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Also of numpy and scipy, whose threads wait for each other longer than small matrices take."""
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(autouse=True, scope="session")
def collect_only_what_tests_make() -> None:
    """All that is imported stays anyway; each run looks for garbage, which would take longer than a short training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A data root with the embedded data sets, shared by all workers of a session.

    They are made once for all sessions of a checkout, as long as nothing changes that makes them.
    """
    session = tmp_path_factory.getbasetemp()
    names = ["digits", "rooms", "faces", "flowtimes", "flowtimes_one"]
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        session = session.parent
        if int(worker.removeprefix("gw")) % 2:
            names.reverse()  # so that two workers make different data sets at the same time
    assert pytestconfig.cache is not None
    kept = pytestconfig.cache.mkdir(f"embedded-{_makers()}")
    for name in names:
        with (kept / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made = obtain(name, kept)
            if not (session / "embedded" / made.name).exists():
                # What a session decodes beside the data is its own.
                shutil.copytree(made, session / "embedded" / made.name, copy_function=_linked)
    return session / "embedded"


def _linked(source: str, target: str) -> None:
    """A hard link, or a copy where the two are on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _makers() -> str:
    """A name for the code that makes the embedded data, and for the packages that it draws with."""
    sources = [path.read_bytes() for path in sorted((ROOT / "datasets").rglob("*.py"))]
    packages = [f"{name} {version(name)}".encode() for name in ("numpy", "pillow", "scikit-learn")]
    return hashlib.sha256(b"".join([*sources, *packages])).hexdigest()[:16]


@pytest.fixture(scope="session")
def example_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of `record_factory.example_records`, which no test may change."""
    from record_factory import example_records, write_runs  # imports matplotlib, which few tests need

    folder = tmp_path_factory.mktemp("results")
    write_runs(folder, example_records())
    return folder


@pytest.fixture(scope="session")
def example_reports(example_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All reports of these records, figures as empty files; no test may change them."""
    from record_factory import without_drawing

    from bench.report import main

    folder = tmp_path_factory.mktemp("reports")
    with without_drawing():
        assert main(["--results", str(example_results), "--out", str(folder)]) == 0
    return folder


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
