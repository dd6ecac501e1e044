"""Where data sets are published: pages, files with sizes and checksums, layouts, and terms of use.

Sizes and checksums are those that public code verifies its downloads with; `known_from` names that code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """A file to download.

    size: in bytes; None if unknown.
    checksums: by algorithm, as hexadecimal digits.
    known_from: who published size and checksums.
    """

    name: str
    size: int | None = None
    checksums: tuple[tuple[str, str], ...] = ()
    known_from: str = ""


@dataclass(frozen=True)
class Origin:
    """How to get a data set.

    summary: page and layout in one or two sentences, for errors.
    page: the official page.
    files: what to download there.
    layouts: one sentence each.
    terms: of use; "" if unknown.
    """

    summary: str
    page: str
    files: Sequence[File]
    layouts: Sequence[str]
    terms: str = ""


_CELEBA_MD5 = "torchvision; size and sha256: TensorFlow Datasets"

ORIGINS: dict[str, Origin] = {
    "office31": Origin(
        summary="Get Office-31 (4,110 images) from https://www.cc.gatech.edu/~judy/domainadapt/ and lay it out as "
        "amazon|dslr|webcam/images/<class>/.",
        page="https://www.cc.gatech.edu/~judy/domainadapt/",
        files=(
            File(
                "domain_adaptation_images.tar.gz",
                checksums=(("sha1", "7aa25a86f3880b6e79283227816f9d4d8506d636"),),
                known_from="one public download script",
            ),
        ),
        layouts=(
            "amazon|dslr|webcam/images/<class>/frame_0001.jpg, as published",
            "the same without images/, or in a folder Original_images or domain_adaptation_images",
        ),
    ),
    "officehome": Origin(
        summary="Get Office-Home (15,588 images) from https://www.hemanthdv.org/officeHomeDataset.html and lay it out "
        "as Art|Clipart|Product|Real_World/<class>/.",
        page="https://www.hemanthdv.org/officeHomeDataset.html",
        files=(
            File(
                "OfficeHomeDataset_10072016.zip",
                checksums=(("md5", "b1c14819770c4448fd5b6d931031c91c"),),
                known_from="several public loaders, among them those that download DomainBed's copy",
            ),
        ),
        layouts=(
            "Art|Clipart|Product|Real World/<class>/00001.jpg, as published; also Real_World, RealWorld or Real, and "
            "any case",
            "data/train-*.parquet with columns image, domain and label, as in flwrlabs/office-home on Hugging Face "
            "(3 files, 1,158,984,115 bytes)",
        ),
        terms="the official page carries a fair use notice",
    ),
    "nyuv2": Origin(
        summary="Get the NYUv2 preprocessed for MTAN (https://github.com/lorenmt/mtan) and lay it out as "
        "train|val/image|label|depth|normal/<i>.npy (795 and 654 files each), or use the public parquet files "
        "unchanged (data/train-*.parquet, data/val-*.parquet; needs pyarrow).",
        page="https://github.com/lorenmt/mtan (preprocessed), "
        "https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html (original)",
        files=(
            File("the folders train and val that the page links to, about 8.4 GB"),
            File(
                "or data/train-*.parquet (8 files) and data/val-*.parquet (6 files)",
                2_971_250_125,
                known_from="tanganke/nyuv2 on Hugging Face",
            ),
        ),
        layouts=(
            "train|val/image|label|depth|normal/<i>.npy, as for MTAN; test instead of val is read as well",
            "data/train-*.parquet and data/val-*.parquet with columns image, segmentation, depth and normal",
        ),
    ),
    "celeba": Origin(
        summary="Get CelebA from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and lay it out as "
        "Anno/list_attr_celeba.txt, Eval/list_eval_partition.txt, Img/img_align_celeba/; torchvision's flat layout "
        "and the one with list_attr_celeba.csv work as well.",
        page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        files=(
            File(
                "img_align_celeba.zip",
                1_443_490_838,
                (
                    ("md5", "00d2c5bc6d35e252742224ab0c1e8fcb"),
                    ("sha256", "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"),
                ),
                _CELEBA_MD5,
            ),
            File(
                "list_attr_celeba.txt",
                26_721_026,
                (
                    ("md5", "75e246fa4810816ffd6ee81facbd244c"),
                    ("sha256", "f0e5da289d5ccf75ffe8811132694922b60f2af59256ed362afa03fefba324d0"),
                ),
                _CELEBA_MD5,
            ),
            File(
                "list_eval_partition.txt",
                2_836_386,
                (
                    ("md5", "d32c9cbf5e040fd4025c592c306e6668"),
                    ("sha256", "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7"),
                ),
                _CELEBA_MD5,
            ),
        ),
        layouts=(
            "Anno/list_attr_celeba.txt, Eval/list_eval_partition.txt, Img/img_align_celeba/000001.jpg, as published",
            "all of these in one folder, as for torchvision; .csv for .txt; images in a folder of the same name inside",
            "train-*, valid-* (or validation-*) and test-*.parquet with an image and 40 attributes, as in "
            "flwrlabs/celeba and tpremoli/CelebA-attrs on Hugging Face, in data/ or in the folder itself",
        ),
        terms="the release agreement on the official page, which bans commercial use",
    ),
}
