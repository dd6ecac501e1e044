"""What an error of the file system means, in words: whose folder, which disk, which limit, and what to do."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from pwd import getpwuid

KIB = 1024


def explained(path: Path, error: OSError) -> str:
    """What was expected at a path, what was found, and what to do, without a full stop."""
    explain = _EXPLANATIONS.get(error.errno or 0)
    if explain is not None:
        return explain(path)
    # Libraries that count written bytes themselves give no number for a full disk.
    if error.errno is None and free_bytes(path) < KIB:
        return _full(path)
    return f"{(error.strerror or str(error)).lower()}; check that place"


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write on the file system of a path, or of the nearest folder above it."""
    usage = os.statvfs(nearest(path))
    return usage.f_bavail * usage.f_frsize


def free_files(path: Path) -> int | None:
    """How many files may still be made on the file system of a path; None where their number has no limit."""
    usage = os.statvfs(nearest(path))
    return usage.f_favail if usage.f_files else None


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it, that this user can see."""
    return next((place for place in _upwards(path) if os.path.lexists(place)), Path("/"))


def mount_point(path: Path) -> Path:
    """The folder at which the file system of a path is mounted."""
    return next(place for place in _upwards(Path(os.path.realpath(nearest(path)))) if os.path.ismount(place))


def user_name(number: int) -> str:
    """The name of a user, or the number of one without a name, as in containers."""
    try:
        return getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _upwards(path: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):  # the working directory was deleted
        path = path.absolute()
    yield path
    yield from path.parents


def _full(path: Path) -> str:
    place = mount_point(path)
    if free_files(path) == 0:
        return f"expected room for another file, found none on the file system at {place} (inodes); delete files there"
    return f"expected free space, found {free_bytes(path) // KIB:,} KiB on the file system at {place}; make room there"


def _quota(path: Path) -> str:
    user = user_name(os.geteuid())
    return f"expected room, found the quota of user {user} used up at {mount_point(path)}; delete files there"


def _too_large(path: Path) -> str:
    del path
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY:
        return "expected a file system that takes files of this size, found one that doesn't; name another folder"
    return f"expected to write a larger file, found a limit of {limit:,} bytes; raise it (`ulimit -f`)"


def _read_only(path: Path) -> str:
    return (
        f"expected to write, found the file system at {mount_point(path)} mounted read-only; name another folder, or "
        "mount it for writing"
    )


def _forbidden(path: Path) -> str:
    place = _forbidding(path)
    about = os.lstat(place)
    user, owner = user_name(os.geteuid()), user_name(about.st_uid)
    return (
        f"expected permission for user {user}, found {place} of user {owner} with {stat.filemode(about.st_mode)}; "
        "change its permissions, or name another folder"
    )


def _forbidding(path: Path) -> Path:
    """The file or folder whose permissions are in the way."""
    place = nearest(path)
    if place != path and place != Path(os.path.abspath(path)):
        return place  # it may not be searched, or nothing may be made in it
    reading = os.R_OK | (os.W_OK | os.X_OK if place.is_dir() else 0)
    parent_is_writable = os.access(place.parent, os.W_OK | os.X_OK)
    return place if not os.access(place, reading) or parent_is_writable else place.parent


def _not_permitted(path: Path) -> str:
    """Not about permissions: the system forbids it to everybody, or a sticky folder to all but the owner."""
    return (
        f"{_forbidden(path)}; the folder may also be immutable (`lsattr`) or sticky, so that only owners replace files"
    )


def _not_a_folder(path: Path) -> str:
    file = next((place for place in _upwards(path) if os.path.lexists(place) and not place.is_dir()), path)
    found = "a file" if file.exists() else "a link that leads nowhere"
    return f"expected a folder at {file}, found {found}; move it away, or name another folder"


def _absent(path: Path) -> str:
    try:
        os.getcwd()
    except FileNotFoundError:
        return "expected the working directory, found it deleted; change to another folder (`cd`)"
    return f"expected it, found nothing; {nearest(path)} is still there. Check that nobody removes files meanwhile"


def _always(sentence: str) -> Callable[[Path], str]:
    def explain(path: Path) -> str:
        del path
        return sentence

    return explain


def _too_many_files(path: Path) -> str:
    del path
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"expected to open another file, found {limit:,} open, the limit; raise it (`ulimit -n`)"


_EXPLANATIONS: dict[int, Callable[[Path], str]] = {
    errno.ENOSPC: _full,
    errno.EDQUOT: _quota,
    errno.EFBIG: _too_large,
    errno.EROFS: _read_only,
    errno.EACCES: _forbidden,
    errno.EPERM: _not_permitted,
    errno.ENOTDIR: _not_a_folder,
    errno.EEXIST: _not_a_folder,
    errno.ENOENT: _absent,
    errno.EMFILE: _too_many_files,
    errno.EISDIR: _always("expected a file, found a folder; move it away, or give another name"),
    errno.ELOOP: _always("expected a file or folder, found links that lead to each other; remove one of them"),
    errno.ENAMETOOLONG: _always("expected a name that the file system takes, found one too long; name a shorter path"),
    errno.EIO: _always("expected a disk that works, found an input/output error; check the disk (`dmesg`)"),
    errno.ENFILE: _always("expected to open another file, found the limit of the machine reached; close programs"),
    errno.ESTALE: _always("expected a network drive, found that its server lost the file; mount it again"),
}

KNOWN_ERRORS = frozenset(_EXPLANATIONS)
