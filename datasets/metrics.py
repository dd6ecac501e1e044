"""Metrics over a whole split, put together from what each batch contributes.

Batches contribute counts and sums (and, for the median, the values themselves), so no metric depends on the batch
size. Peers that average per batch report other numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from datasets.contract import Measure, Metric, Observation
from datasets.losses import UNLABELLED, cosines, has_depth, has_normal

WITHIN_DEGREES = (11.25, 22.5, 30.0)


def _total(observations: Sequence[Observation], part: int) -> Tensor:
    return torch.stack([observation[part] for observation in observations]).sum(dim=0)


def observe_classes(output: Tensor, target: Tensor) -> Observation:
    """Number of correct answers and of answers, for logits (B, C)."""
    return (output.argmax(dim=1) == target).sum(), torch.tensor(len(target))


def summarise_classes(observations: Sequence[Observation]) -> dict[str, float]:
    """Accuracy."""
    return {"accuracy": int(_total(observations, 0)) / int(_total(observations, 1))}


def observe_attribute(output: Tensor, target: Tensor) -> Observation:
    """True positives, false positives, false negatives and answers, for one logit (B, 1) at threshold 0."""
    said, true = output.squeeze(1) > 0, target > 0
    return (said & true).sum(), (said & ~true).sum(), (~said & true).sum(), torch.tensor(len(target))


def summarise_attribute(observations: Sequence[Observation]) -> dict[str, float]:
    """Accuracy and F1 of the positive class (0 where nothing is positive and nothing is said to be)."""
    hits, false_alarms, misses, count = (int(_total(observations, part)) for part in range(4))
    wrong = false_alarms + misses
    return {"accuracy": 1 - wrong / count, "f1": 2 * hits / (2 * hits + wrong) if hits else 0.0}


def observe_segmentation(output: Tensor, target: Tensor) -> Observation:
    """Confusion matrix (C, C), rows true and columns predicted, over labelled pixels of logits (B, C, H, W)."""
    classes = output.shape[1]
    labelled = target != UNLABELLED
    pairs = target[labelled].long() * classes + output.argmax(dim=1)[labelled]
    return (torch.bincount(pairs, minlength=classes**2).reshape(classes, classes),)


def summarise_segmentation(observations: Sequence[Observation]) -> dict[str, float]:
    """Mean over classes of intersection over union, classes that occur nowhere left out; and pixel accuracy."""
    confusion = _total(observations, 0).double()
    hits = confusion.diagonal()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - hits
    seen = union > 0
    return {
        "miou": float((hits[seen] / union[seen]).mean()),
        "pixel_accuracy": float(hits.sum() / confusion.sum()),
    }


def observe_depth(output: Tensor, target: Tensor) -> Observation:
    """Sums of absolute (m) and relative errors, and the number of measured pixels."""
    valid = has_depth(target)
    error = (output - target)[valid].abs().double()
    return error.sum(), (error / target[valid].double()).sum(), valid.sum()


def summarise_depth(observations: Sequence[Observation]) -> dict[str, float]:
    """Mean absolute error in metres and mean relative error, every measured pixel counting once."""
    count = int(_total(observations, 2))
    return {
        "absolute_error": float(_total(observations, 0)) / count,
        "relative_error": float(_total(observations, 1)) / count,
    }


def observe_normals(output: Tensor, target: Tensor) -> Observation:
    """Angles in degrees at all pixels with a normal, and their number."""
    valid = has_normal(target)
    cosine = cosines(output, target)[valid].clamp(-1, 1)
    return (torch.rad2deg(torch.acos(cosine)).cpu(),)


def summarise_normals(observations: Sequence[Observation]) -> dict[str, float]:
    """Mean and median angle in degrees over the whole split, and the shares within 11.25°, 22.5° and 30°."""
    angles = torch.cat([angles for (angles,) in observations]).double()
    ordered = angles.sort().values
    middle = (len(ordered) - 1) / 2
    median = (ordered[math.floor(middle)] + ordered[math.ceil(middle)]) / 2
    shares = {f"within_{limit:g}": float((angles < limit).double().mean()) for limit in WITHIN_DEGREES}
    return {"mean_angle": float(angles.mean()), "median_angle": float(median), **shares}


ACCURACY = Metric("accuracy", "Accuracy", "higher", "%")

CLASSES = Measure((ACCURACY,), observe_classes, summarise_classes)
ATTRIBUTE = Measure((ACCURACY, Metric("f1", "F1", "higher", "%")), observe_attribute, summarise_attribute)
SEGMENTATION = Measure(
    (Metric("miou", "mIoU", "higher"), Metric("pixel_accuracy", "Pix Acc", "higher")),
    observe_segmentation,
    summarise_segmentation,
)
DEPTH = Measure(
    (Metric("absolute_error", "Abs Err", "lower", "m"), Metric("relative_error", "Rel Err", "lower")),
    observe_depth,
    summarise_depth,
)
NORMALS = Measure(
    (
        Metric("mean_angle", "Mean", "lower", "°"),
        Metric("median_angle", "Median", "lower", "°"),
        *(Metric(f"within_{limit:g}", f"{limit:g}", "higher") for limit in WITHIN_DEGREES),
    ),
    observe_normals,
    summarise_normals,
)
