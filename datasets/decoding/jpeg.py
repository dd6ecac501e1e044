"""Common JPEGs decoded by simplejpeg, an optional package, which is quicker than Pillow.

Only JPEGs whose pixels are the same to the last bit: three components, 8 bits, chroma halved as 4:4:4, 4:2:2 or 4:2:0,
and without any fault; tests compare them. Pillow must use libjpeg-turbo, as simplejpeg does: another library's chroma
interpolation differs. Everything else is left to Pillow, which also decides which faults it forgives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from PIL import Image, JpegImagePlugin, features

from datasets.decoding.prepared import Array

# Of the three components: how often each is sampled, horizontally and vertically.
_SAMPLINGS = [[luma, (1, 1), (1, 1)] for luma in ((1, 1), (2, 1), (2, 2))]


def quick_pixels(image: Image.Image, content: bytes) -> Array | None:
    """The pixels (H, W, 3) uint8 of an image that Pillow opened and hasn't decoded yet; None if Pillow must do it."""
    decode = _decoder()
    if decode is None or not _is_common(image):
        return None
    try:
        return decode(content)
    except ValueError:  # also for faults that could be ignored
        return None


def _is_common(image: Image.Image) -> bool:
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != "RGB" or image.bits != 8:
        return False
    return [(horizontal, vertical) for _, horizontal, vertical, _ in image.layer] in _SAMPLINGS


@cache
def _decoder() -> Callable[[bytes], Array] | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg.decode_jpeg if features.check_feature("libjpeg_turbo") else None
