"""Names of files and folders that come from records and studies: none may lead out of the folder it belongs to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

_NAME = re.compile(r"[A-Za-z0-9_.@+-]+")
_LONGEST = 200  # file systems allow 255 bytes, and endings are added
_LONGEST_PART = 120


def checked_name(text: str, longest: int = _LONGEST) -> str:
    """The text, which is safe as the name of a file or folder on every system.

    Raises:
        ValueError: it is not.
    """
    if not _NAME.fullmatch(text) or text in (".", "..") or len(text) > longest:
        raise ValueError(
            f"expected a name of at most {longest} of the characters A-Z a-z 0-9 _ . @ + -, found {text!r:.80}"
        )
    return text


def checked_short_name(text: str) -> str:
    """As `checked_name`, short enough to be a part of another name, as in positions-<variant>.png."""
    return checked_name(text, _LONGEST_PART)


Name = Annotated[str, AfterValidator(checked_name)]
ShortName = Annotated[str, AfterValidator(checked_short_name)]


def machine_slug(chip: str) -> str:
    """A name for files from that of a processor or an accelerator: "NVIDIA A100-PCIE-40GB" is nvidia-a100-pcie-40gb."""
    return "-".join(re.findall(r"[a-z0-9.]+", re.sub(r"\((r|tm|c)\)|@.*", " ", chip.lower())))


def inside(root: Path, *names: str) -> Path:
    """The path of these folders below root.

    Raises:
        ValueError: one of them is not a name.
    """
    return root.joinpath(*(checked_name(name) for name in names))
