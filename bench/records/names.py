"""Names of files and folders that come from records and studies: none may lead out of the folder it belongs to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

_NAME = re.compile(r"[A-Za-z0-9_.@+-]+")
_LONGEST = 200  # file systems allow 255 bytes, and endings are added


def checked_name(text: str) -> str:
    """The text, which is safe as the name of a file or folder on every system.

    Raises:
        ValueError: it is not.
    """
    if not _NAME.fullmatch(text) or text in (".", "..") or len(text) > _LONGEST:
        raise ValueError(
            f"expected a name of at most {_LONGEST} of the characters A-Z a-z 0-9 _ . @ + -, found {text!r:.80}"
        )
    return text


Name = Annotated[str, AfterValidator(checked_name)]
# Parts of longer names, as in positions-<variant>.png.
ShortName = Annotated[Name, Field(max_length=120)]


def inside(root: Path, *names: str) -> Path:
    """The path of these folders below root.

    Raises:
        ValueError: one of them is not a name.
    """
    return root.joinpath(*(checked_name(name) for name in names))
