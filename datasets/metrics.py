"""Metrics over a whole split, computed from statistics of its batches.

The statistics are counts and sums, so no metric depends on the batch size. They are computed where the output is, and
`update` never waits for an accelerator. To leave out values without ground truth it would have to know how many remain:
there they are replaced instead, so that sums may differ from a CPU's by rounding (float64). `compute` runs on the CPU.
Only the median of the angles needs every value: no summary of fixed size gives an exact median in one pass. It takes a
float32 per pixel with a normal (on an accelerator: per pixel), 0.3 GB for the test set of NYUv2. If a whole split has
no valid pixel, metrics are NaN.

Peers that average depth and normal errors over batches report other numbers; `averaged` computes those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.contract import BatchStatistics, Measure, Metric
from datasets.item_scores import (
    WITHIN_DEGREES,
    angles,
    confusions,
    correct_attributes,
    correct_classes,
    depth_scores,
    normal_scores,
    segmentation_scores,
)
from datasets.losses import cosines, has_depth, has_normal

NO_ANGLE = -1.0


def _total(statistics: Sequence[BatchStatistics], part: int) -> Tensor:
    return torch.stack([of_batch[part] for of_batch in statistics]).sum(dim=0)


def update_classes(output: Tensor, target: Tensor) -> BatchStatistics:
    """Numbers of correct predictions and of predictions, for logits (B, C)."""
    return (output.argmax(dim=1) == target).sum(), torch.tensor(len(target))


def compute_classes(statistics: Sequence[BatchStatistics]) -> dict[str, float]:
    """Accuracy."""
    return {"accuracy": int(_total(statistics, 0)) / int(_total(statistics, 1))}


def update_attribute(output: Tensor, target: Tensor) -> BatchStatistics:
    """True positives, false positives, false negatives and predictions, for one logit (B, 1) at threshold 0."""
    predicted, true = output.squeeze(1) > 0, target > 0
    hits, false_alarms, misses = predicted & true, predicted & ~true, ~predicted & true
    return hits.sum(), false_alarms.sum(), misses.sum(), torch.tensor(len(target))


def compute_attribute(statistics: Sequence[BatchStatistics]) -> dict[str, float]:
    """Accuracy, and F1 of the positive class (0 if there are no positives and none are predicted)."""
    hits, false_alarms, misses, count = (int(_total(statistics, part)) for part in range(4))
    wrong = false_alarms + misses
    return {"accuracy": 1 - wrong / count, "f1": 2 * hits / (2 * hits + wrong) if hits else 0.0}


def update_segmentation(output: Tensor, target: Tensor) -> BatchStatistics:
    """Confusion matrix (C, C), rows true and columns predicted, over labelled pixels of logits (B, C, H, W)."""
    return (confusions(output, target).sum(dim=0),)


def compute_segmentation(statistics: Sequence[BatchStatistics]) -> dict[str, float]:
    """Mean intersection over union of the classes that occur, and pixel accuracy."""
    confusion = _total(statistics, 0).double()
    hits = confusion.diagonal()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - hits
    seen = union > 0
    return {
        "miou": float((hits[seen] / union[seen]).mean()),
        "pixel_accuracy": float(hits.sum() / confusion.sum()),
    }


def update_depth(output: Tensor, target: Tensor) -> BatchStatistics:
    """Sums of absolute (m) and relative errors, and the number of measured pixels."""
    valid = has_depth(target)
    error = _selected(output - target, valid, 0.0).abs().double()
    return error.sum(), (error / _selected(target, valid, 1.0).double()).sum(), valid.sum()


def _selected(values: Tensor, valid: Tensor, other: float) -> Tensor:
    """The valid values (n,) on a CPU; on an accelerator all of them, with `other` in place of those that aren't."""
    return values[valid] if values.device.type == "cpu" else torch.where(valid, values, other)


def compute_depth(statistics: Sequence[BatchStatistics]) -> dict[str, float]:
    """Mean absolute error in metres and mean relative error over all measured pixels."""
    count = int(_total(statistics, 2))
    return {
        "absolute_error": _share(float(_total(statistics, 0)), count),
        "relative_error": _share(float(_total(statistics, 1)), count),
    }


def update_normals(output: Tensor, target: Tensor) -> BatchStatistics:
    """Angles in degrees (n,) at all pixels with a normal; on an accelerator (B, H, W), NO_ANGLE at other pixels."""
    valid, cosine = has_normal(target), cosines(output, target)
    if cosine.device.type == "cpu":
        return (angles(cosine[valid]),)
    return (torch.where(valid, angles(cosine), NO_ANGLE),)


def compute_normals(statistics: Sequence[BatchStatistics]) -> dict[str, float]:
    """Mean and median angle in degrees over the whole split, and the shares within 11.25°, 22.5° and 30°."""
    parts = [_known(part) for (part,) in statistics]
    total = torch.stack([part.double().sum() for part in parts]).sum(dim=0)
    every = torch.cat(parts).numpy()
    return {
        "mean_angle": _share(float(total), len(every)),
        "median_angle": _median(every),
        **{f"within_{limit:g}": _share(int((every < limit).sum()), len(every)) for limit in WITHIN_DEGREES},
    }


def _known(found: Tensor) -> Tensor:
    """Angles (n,) without those of pixels that have no normal."""
    return found if found.dim() == 1 else found[found != NO_ANGLE]


def _share(total: float, count: int) -> float:
    return total / count if count else math.nan


def _median(values: NDArray[np.float32]) -> float:
    """The middle value, or the mean of the middle two; reorders `values`."""
    if not len(values):
        return math.nan
    low, high = (len(values) - 1) // 2, len(values) // 2
    values.partition((low, high))
    return (float(values[low]) + float(values[high])) / 2


def averaged(measure: Measure, images: int) -> Measure:
    """The legacy measure of peers: the mean of `measure` over batches of so many images.

    It gives pixels of a sparse batch more weight than those of a dense one, and a mean of medians is not a median. The
    batches are formed here, so the engine's batch size doesn't matter. The last one may be smaller and has the same
    weight. Batches without a valid pixel are left out.
    """

    def update(output: Tensor, target: Tensor) -> BatchStatistics:
        singles = zip(output.split(1), target.split(1), strict=True)
        seen = [measure.update(*single) for single in singles]
        return (torch.tensor(len(seen)), *(part for of_image in seen for part in of_image))

    def compute(statistics: Sequence[BatchStatistics]) -> dict[str, float]:
        singles = [single for of_batch in statistics for single in _singles(of_batch)]
        batches = [singles[start : start + images] for start in range(0, len(singles), images)]
        values = [measure.compute(batch) for batch in batches]
        return {metric.key: _mean_of_known([value[metric.key] for value in values]) for metric in measure.metrics}

    return Measure(measure.metrics, update, compute, measure.per_item)


def _singles(of_batch: BatchStatistics) -> list[BatchStatistics]:
    """The statistics of each image of a batch, from their number and all statistics in a row."""
    count, parts = int(of_batch[0]), of_batch[1:]
    size = len(parts) // max(1, count)
    return [parts[index * size : (index + 1) * size] for index in range(count)]


def _mean_of_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return _share(sum(known), len(known))


ACCURACY = Metric("accuracy", "Accuracy", "higher", "%")

CLASSES = Measure((ACCURACY,), update_classes, compute_classes, correct_classes)
ATTRIBUTE = Measure(
    (ACCURACY, Metric("f1", "F1", "higher", "%")),
    update_attribute,
    compute_attribute,
    correct_attributes,
)
SEGMENTATION = Measure(
    (Metric("miou", "mIoU", "higher", "%"), Metric("pixel_accuracy", "Pix Acc", "higher", "%")),
    update_segmentation,
    compute_segmentation,
    segmentation_scores,
)
DEPTH = Measure(
    (Metric("absolute_error", "Abs Err", "lower", "m"), Metric("relative_error", "Rel Err", "lower")),
    update_depth,
    compute_depth,
    depth_scores,
)
NORMALS = Measure(
    (
        Metric("mean_angle", "Mean", "lower", "°"),
        Metric("median_angle", "Median", "lower", "°"),
        *(Metric(f"within_{limit:g}", f"within {limit:g}°", "higher", "%") for limit in WITHIN_DEGREES),
    ),
    update_normals,
    compute_normals,
    normal_scores,
)
