"""Devices, data sets, weights, peers and disks for bench.doctor. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from bench import ROOT
from bench.cli.options import cores
from bench.engine.device import choose_device, synchronise
from bench.inspection.packages import (
    INSTALL,
    INSTALL_EXTRA,
    INSTALL_PEERS,
    Finding,
    Verdict,
    installed,
    requirements,
    unsuitable_versions,
)
from bench.records.environment import describe_environment
from bench.records.system_errors import explained, free_bytes, nearest
from datasets import DATASETS, find
from datasets.contract import DataError, DataSettings
from datasets.decoding.places import array_folders, choose_folder, is_writable
from methods.adapters import libmtl
from methods.adapters.bridge import PeerUnavailable, import_peer
from methods.architectures.backbones import BACKBONES

GIB = 2**30
# Decoded arrays of the four real data sets at their usual sizes, together.
ROOM_FOR_DATA = 10 * GIB
# Checkpoints, records and reports of a study with ImageNet-sized networks.
ROOM_FOR_RESULTS = 2 * GIB
ROOM_FOR_WEIGHTS = GIB // 4
_MEMORY_STATUS = Path("/proc/meminfo")
# What a container may use, a number or "max".
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_findings() -> Iterator[Finding]:
    """Whether torchvision's compiled part works with this torch; processor, memory, accelerators."""
    error = _torchvision_error()
    if error:
        yield Finding("torchvision", error, "missing", "No ResNet can be built; install it with torch", INSTALL)
    memory = _memory()
    of_memory = f", {memory / GIB:.0f} GiB of memory" if memory else ""
    yield Finding("processor", f"{describe_environment(ROOT)['cpu']}, {cores()} cores{of_memory}")
    yield _accelerator_finding()


def data_findings(root: Path, cache: Path | None) -> Iterator[Finding]:
    """Every data set: where it is and where its prepared arrays go, or what is left out without it."""
    for name, info in DATASETS.items():
        try:
            folder = find(name, root)
            errors = _errors(name, folder) if folder is not None else []
        except DataError as error:
            yield Finding(name, str(error), "skipped", "It can't be read")
            continue
        if errors:
            first = errors[0].splitlines()[0]
            yield Finding(
                name, first, "missing", "Runs stop there; see all errors", f"python -m bench.data check {name}"
            )
        elif folder is not None:
            yield Finding(name, str(folder))
            yield _arrays_finding(name, folder, cache)
        elif info.make is not None:
            yield Finding(name, "made when needed")
        else:
            advice = "Studies leave it out; how to get it"
            yield Finding(name, "not found", "skipped", advice, f"python -m bench.data how {name}")


def _errors(name: str, folder: Path) -> list[str]:
    """What is wrong with the lists and folders of a data set; its images are not read."""
    info = DATASETS[name]
    return list(info.inventory(folder, DataSettings(info.image_size)).errors) if info.inventory else []


def weight_findings(root: Path) -> Iterator[Finding]:
    """The ImageNet weights that runs start from: whether torch's cache has them, undamaged."""
    users: dict[str, list[str]] = {}
    for name, info in DATASETS.items():
        if info.backbone_weights == "imagenet":
            users.setdefault(BACKBONES[info.backbone].imagenet, []).append(name)
    for weights, names in users.items():
        here = [name for name in names if _is_here(name, root)]
        try:
            yield _weight_finding(weights, here)
        except OSError as error:
            topic = weights.partition("_")[0] + " weights"
            yield Finding(topic, f"{error.filename} can't be read ({error.strerror})", "note", "Runs can't use them")


def peer_findings() -> Iterator[Finding]:
    """Packages and programs that only some weightings, tests or records need."""
    yield _peer("LibMTL", libmtl.weightings, INSTALL, "the weightings libmtl:...")
    yield _peer(
        "TorchJD",
        lambda: import_peer("torchjd", "TorchJD"),
        INSTALL_PEERS,
        "the weightings torchjd:..., test_parity.py and test_adapters.py",
    )
    yield _solvers_finding()
    yield _package("pyarrow", "parquet", "data sets as .parquet files can't be read")
    yield _package("pytest", "dev", "no test can run")
    yield _program("pdflatex", "skipped", "The test that typesets the tables is left out; install TeX Live")
    yield _program("git", "note", "Records won't name the commit they were made with; install git")


def disk_findings(root: Path, results: Path) -> Iterator[Finding]:
    """Free space for data, results and torch's cache, and whether their folders are writable."""
    yield _disk(
        "data root", root, ROOM_FOR_DATA, "skipped", "No data can be made or decoded; choose another --data-root"
    )
    yield _disk(
        "results", results, ROOM_FOR_RESULTS, "missing", "No run can write its record; choose another --results"
    )
    cache = Path(torch.hub.get_dir())
    yield _disk("weights cache", cache, ROOM_FOR_WEIGHTS, "note", "Downloaded weights can't be stored; set TORCH_HOME")


def _torchvision_error() -> str:
    """Why torchvision's compiled operators don't run; empty if they do."""
    try:
        from torchvision.ops import nms  # imported here because the import fails if torch and torchvision mismatch

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return str(error).splitlines()[0]
    return ""


def _accelerator_finding() -> Finding:
    device = choose_device("auto")
    if device.type == "cpu":
        found = "none"
        advice = "A run takes minutes on the embedded problems, days on the four real ones"
        if shutil.which("nvidia-smi") and not torch.version.cuda:
            advice += "; there is a GPU, but this torch is built without CUDA"
        elif shutil.which("nvidia-smi"):
            advice += f"; torch is built for CUDA {torch.version.cuda}: check the driver's CUDA version with nvidia-smi"
        return Finding("accelerator", found, "slow", advice)
    found = "; ".join(_describe_accelerators(device))
    try:
        torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device))
        synchronise(device)
    except RuntimeError as error:
        advice = f"It can't compute ({str(error).splitlines()[0]}); repair the driver, or use --device cpu"
        return Finding("accelerator", found, "missing", advice)
    return Finding("accelerator", found)


def _describe_accelerators(device: torch.device) -> list[str]:
    if device.type != "cuda":
        return [device.type]
    described = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        described.append(f"cuda:{index} {name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free")
    return described


def _memory() -> int | None:
    """Bytes that this process may use; None if the system doesn't say."""
    status = _MEMORY_STATUS.read_text(encoding="ascii") if _MEMORY_STATUS.exists() else ""
    total = re.search(r"MemTotal:\s+(\d+) kB", status)
    limit = _MEMORY_LIMIT.read_text(encoding="ascii").strip() if _MEMORY_LIMIT.exists() else ""
    known = ([int(total[1]) * 1024] if total else []) + ([int(limit)] if limit.isdecimal() else [])
    return min(known, default=None)


def _is_here(name: str, root: Path) -> bool:
    try:
        return find(name, root) is not None
    except DataError:
        return False


def _weight_finding(weights: str, users: list[str]) -> Finding:
    from torchvision.models import get_weight

    topic = weights.partition("_")[0] + " weights"
    path = Path(torch.hub.get_dir()) / "checkpoints" / get_weight(weights).url.rpartition("/")[2]
    offline = "offline, set backbone.weights to a path, or to none"
    if not path.is_file():
        users_of = f"{', '.join(users)} download them once" if users else "No data set here needs them yet"
        return Finding(topic, f"not in {path.parent}", "note", f"{users_of}; {offline}")
    # torchvision ends its file names with the first digits of the SHA-256.
    digits = path.stem.rpartition("-")[2]
    if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digits):
        return Finding(topic, f"{path} is damaged", "note", f"Delete it; the next run downloads it again; {offline}")
    return Finding(topic, str(path))


def _arrays_finding(name: str, folder: Path, cache: Path | None) -> Finding:
    """Where prepared arrays of a data set are written."""
    topic, folders = f"{name} arrays", array_folders(folder, cache)
    chosen = choose_folder(folders)
    if not is_writable(chosen):
        advice = "Nothing can be decoded there, only arrays that are there already can be read; choose another folder"
        return Finding(topic, f"{chosen} is not writable", "skipped", advice, "--cache-dir DIR")
    if chosen != folders[0]:
        advice = f"{folders[0]} is not writable; arrays that are current there are read from there"
        return Finding(topic, f"go into {chosen}", "note", advice)
    return Finding(topic, f"go into {chosen}")


def _peer(topic: str, load: Callable[[], object], install: str, needed_by: str) -> Finding:
    try:
        load()
    except PeerUnavailable:
        return Finding(topic, "can't be imported", "skipped", f"Left out: {needed_by}; install it", install)
    return Finding(topic, installed(topic) or "installed")


def _solvers_finding() -> Finding:
    """The solvers that some of TorchJD's weightings need, and the one release of TorchJD that the adapter supports."""
    needed = requirements("peers")
    problems = [f"no {r.package}" for r in needed if installed(r.package) is None] + [*unsuitable_versions(needed)]
    if problems:
        advice = "Runs of weightings torchjd:... that need them fail; install them"
        return Finding("peers' solvers", "; ".join(problems), "skipped", advice, INSTALL_PEERS)
    return Finding("peers' solvers", ", ".join(r.package for r in needed if r.package != "torchjd"))


def _package(name: str, extra: str, without: str) -> Finding:
    if find_spec(name) is None:
        return Finding(
            name, "not installed", "skipped", f"Without it {without}; install it", INSTALL_EXTRA.format(extra)
        )
    return Finding(name, installed(name) or "installed")


def _program(name: str, verdict: Verdict, without: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, path) if path else Finding(name, "not found", verdict, without)


def _disk(topic: str, place: Path, wanted: int, if_unwritable: Verdict, without: str) -> Finding:
    """Examines the folder, or its nearest parent that exists."""
    existing = nearest(place)
    free = free_bytes(existing)
    found = f"{place}, {free / GIB:.0f} GiB free"
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(topic, f"{place} is not writable: {explained(existing, error)}", if_unwritable, without)
    if free < wanted:
        return Finding(topic, found, "note", f"The real data sets need {wanted / GIB:.2g} GiB; free some space")
    return Finding(topic, found)
