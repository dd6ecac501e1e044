"""JPEGs decoded by simplejpeg: the same pixels as Pillow's to the last bit, and the same files refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datasets.contract import DataError
from datasets.decoding.jpeg import quick_pixels
from datasets.pixels import image_loader

pytest.importorskip("simplejpeg", reason="the extra `jpeg` is not installed")

Pixels = NDArray[np.uint8]
Loader = Callable[[Path], NDArray[np.generic]]
SIZES = ((64, 48), (37, 53), (16, 1), (1, 17), (7, 8))


def photo(size: tuple[int, int], mode: str = "RGB", seed: int = 0, **options: object) -> bytes:
    """A JPEG of soft shapes and noise."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = (soft + draw.normal(0, 20, soft.shape)).clip(0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def by_pillow(content: bytes, size: tuple[int, int] | None = None) -> Pixels:
    with Image.open(io.BytesIO(content)) as image:
        rgb = image.convert("RGB")
    if size is not None:
        rgb = rgb.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def by_quick_decoder(content: bytes) -> NDArray[np.generic] | None:
    with Image.open(io.BytesIO(content)) as image:
        return quick_pixels(image, content)


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [3, 50, 90, 100])
def test_common_jpegs_have_the_pixels_of_pillow(progressive: bool, subsampling: str, quality: int) -> None:
    for number, size in enumerate(SIZES):
        content = photo(size, seed=number, progressive=progressive, subsampling=subsampling, quality=quality)
        quick = by_quick_decoder(content)
        assert quick is not None and np.array_equal(quick, by_pillow(content)), size


def turned() -> bytes:
    """EXIF data of an image that is to be shown turned by 90°."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


OTHERS = {
    "exif": photo((31, 21), exif=turned()),
    "comment": photo((31, 21), comment=b"text"),
    "profile": photo((31, 21), icc_profile=b"profile" * 20000),
    "optimised": photo((31, 21), optimize=True),
    "restarts": photo((61, 41), restart_marker_blocks=2),
    "rgb": photo((31, 21), keep_rgb=True),
}
LEFT_TO_PILLOW = {
    "grey": photo((31, 21), mode="L"),
    "cmyk": photo((31, 21), mode="CMYK"),
    "4:1:1": photo((31, 21), streamtype=0, subsampling="4:2:0").replace(b"\x01\x22\x00", b"\x01\x41\x00", 1),
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_other_jpegs_with_three_components_too(content: bytes) -> None:
    quick = by_quick_decoder(content)
    assert quick is not None and np.array_equal(quick, by_pillow(content))


@pytest.mark.parametrize("content", LEFT_TO_PILLOW.values(), ids=LEFT_TO_PILLOW)
def test_uncommon_jpegs_are_left_to_pillow(content: bytes) -> None:
    assert by_quick_decoder(content) is None


@pytest.mark.parametrize("size", [None, (20, 30), (224, 224)])
@pytest.mark.parametrize("content", [*OTHERS.values(), *LEFT_TO_PILLOW.values()], ids=[*OTHERS, *LEFT_TO_PILLOW])
def test_the_loader_gives_what_pillow_gives(tmp_path: Path, content: bytes, size: tuple[int, int] | None) -> None:
    (tmp_path / "image.jpg").write_bytes(content)
    assert same_outcome(image_loader(size), tmp_path / "image.jpg", size)


def same_outcome(load: Loader, path: Path, size: tuple[int, int] | None = None) -> bool:
    """Whether a file is refused, or decoded to the same pixels, as by Pillow alone."""
    try:
        expected = by_pillow(path.read_bytes(), size)
    except (OSError, SyntaxError, ValueError):
        expected = None
    try:
        found = load(path)
    except DataError:
        return expected is None
    return expected is not None and np.array_equal(found, expected)


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_damaged_jpegs_are_refused_as_pillow_refuses_them(tmp_path: Path, progressive: bool, subsampling: str) -> None:
    content = photo((40, 30), progressive=progressive, subsampling=subsampling)
    path, draw = tmp_path / "image.jpg", np.random.default_rng(0)
    for length in draw.integers(len(content), size=60).tolist():
        path.write_bytes(content[:length])
        assert same_outcome(image_loader(None), path), length
    for place in draw.integers(len(content), size=120).tolist():
        spoiled = bytearray(content)
        spoiled[place] ^= int(draw.integers(1, 256))
        path.write_bytes(spoiled)
        assert same_outcome(image_loader(None), path), (place, spoiled[place])
