"""Asynchronous copies: what the host reads too early is not there yet, and what it overwrites too early is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Upload:
    """A copy to the device. values: what `host` held when the copy was queued. lines: that queued it."""

    host: Tensor
    values: Tensor
    lines: Sequence[str]


@dataclass(frozen=True)
class _Download:
    """A copy to the host. values: what `host` will hold."""

    host: Tensor
    values: Tensor


_uploads: list[_Upload] = []
_downloads: list[_Download] = []


def send(host: Tensor, lines: Sequence[str]) -> None:
    """Remembers a copy from pinned memory, which has to keep its values until the device has made the copy."""
    _uploads.append(_Upload(host, host.clone(), lines))


def fetch(host: Tensor, values: Tensor) -> None:
    """Lets values arrive in pinned memory at the next wait. Until then it holds NaN, or the smallest number."""
    info = torch.finfo if values.is_floating_point() else torch.iinfo
    host.fill_(torch.nan if info is torch.finfo else False if values.dtype == torch.bool else info(values.dtype).min)
    _downloads.append(_Download(host, values))


def arrive() -> None:
    """The device has made all copies.

    Raises:
        RuntimeError: pinned memory has been overwritten before its copy was made.
    """
    for download in _downloads:
        download.host.copy_(download.values)
    overwritten = [upload for upload in _uploads if not _same(upload.host, upload.values)]
    _downloads.clear()
    _uploads.clear()
    if overwritten:
        raise RuntimeError(
            "Expected pinned memory to keep its values until the device has copied them, found it overwritten after "
            f"the copy at {' < '.join(overwritten[0].lines)}; wait for an event before using it again."
        )


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether all values are the same; NaN equals NaN."""
    return bool(torch.isclose(first, second, rtol=0, atol=0, equal_nan=True).all())
