"""What the tests share: one thread, and the embedded data, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bench  # noqa: F401  (puts our `datasets` first)
from datasets import obtain


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the three embedded data sets."""
    root = tmp_path_factory.mktemp("data")
    for name in ("digits", "rooms", "faces"):
        obtain(name, root)
    return root
