"""Losses, metrics and constant answers, against scikit-learn, plain torch, numpy formulas and sums by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cases import for_every
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    mean_absolute_percentage_error,
    median_absolute_error,
)
from torch import Tensor
from torch.nn import functional

from bench.spec.resolve import resolve
from bench.spec.settings import SpecError
from datasets import DATASETS, losses
from datasets.contract import Measure
from datasets.metrics import ATTRIBUTE, CLASSES, DEPTH, NORMALS, SEGMENTATION, averaged

Pair = tuple[Tensor, Tensor]
Array = NDArray[np.float64]

BATCH, SIZE, LABELS = 23, (5, 6), 13


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def class_answers() -> Pair:
    return torch.randn(BATCH, 7), torch.randint(7, (BATCH,))


def attribute_answers() -> Pair:
    return torch.randn(BATCH, 1), torch.randint(2, (BATCH,), dtype=torch.uint8)


def segmentation_answers() -> Pair:
    """A fifth of the pixels unlabelled; class 3 occurs nowhere, class 5 is never true and class 7 never predicted."""
    output, target = torch.randn(BATCH, LABELS, *SIZE), torch.randint(LABELS, (BATCH, *SIZE))
    output[:, [3, 7]] = -100.0
    target[(target == 3) | (target == 5)] = 0
    target[torch.rand(target.shape) < 0.2] = losses.UNLABELLED
    return output, target


def depth_answers() -> Pair:
    target = 0.5 + 9 * torch.rand(BATCH, 1, *SIZE)
    target[torch.rand(target.shape) < 0.2] = 0.0
    return 10 * torch.rand(BATCH, 1, *SIZE), target


def normal_answers() -> Pair:
    """Predictions of any length, most of them near the truth; (1, -1, 0)/√2 is known although it sums to nothing."""
    target = functional.normalize(torch.randn(BATCH, 3, *SIZE), dim=1)
    output = 3 * (target + 0.4 * torch.randn(target.shape))
    target[0, :, 0, 0] = torch.tensor([1.0, -1.0, 0.0]) / math.sqrt(2)
    target.mul_(torch.rand(BATCH, 1, *SIZE) > 0.2)
    return output, target


def unknown(target: Tensor) -> Tensor:
    """Where a dense target says nothing, (B, 1, H, W)."""
    if target.dim() == 3:
        return (target == losses.UNLABELLED).unsqueeze(1)
    return (target == 0).all(dim=1, keepdim=True)


def class_formula(output: Array, target: Array) -> dict[str, float]:
    return {"accuracy": accuracy_score(target, output.argmax(1))}


def attribute_formula(output: Array, target: Array) -> dict[str, float]:
    said = output[:, 0] > 0
    return {"accuracy": accuracy_score(target, said), "f1": f1_score(target, said, zero_division=0)}


def segmentation_formula(output: Array, target: Array) -> dict[str, float]:
    known = target != losses.UNLABELLED
    true, said = target[known], output.argmax(1)[known]
    present = sorted(set(true) | set(said))
    return {
        "miou": jaccard_score(true, said, labels=present, average="macro"),
        "pixel_accuracy": accuracy_score(true, said),
    }


def depth_formula(output: Array, target: Array) -> dict[str, float]:
    true, said = target[target > 0], output[target > 0]
    return {
        "absolute_error": mean_absolute_error(true, said),
        "relative_error": mean_absolute_percentage_error(true, said),
    }


def normal_formula(output: Array, target: Array) -> dict[str, float]:
    true, said = (np.moveaxis(array, 1, -1).reshape(-1, 3) for array in (target, output))
    known = np.linalg.norm(true, axis=1) > 0.5
    true, said = true[known], said[known]
    # Not the arc cosine of the code: the tangent is exact for small angles as well.
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(true, said), axis=1), (true * said).sum(1)))
    shares = {f"within_{limit:g}": (angles < limit).mean() for limit in (11.25, 22.5, 30)}
    return {"mean_angle": angles.mean(), "median_angle": median_absolute_error(0 * angles, angles), **shares}


def class_loss(output: Tensor, target: Tensor) -> Tensor:
    known = target != losses.UNLABELLED
    return functional.nll_loss(output.movedim(1, -1)[known].log_softmax(dim=1), target[known])


def attribute_loss(output: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy(output.sigmoid().squeeze(1), target.float())


def absolute_loss(output: Tensor, target: Tensor) -> Tensor:
    return functional.l1_loss(output[target > 0], target[target > 0])


def angular_loss(output: Tensor, target: Tensor) -> Tensor:
    known = target.norm(dim=1) > 0.5
    said, true = (tensor.movedim(1, -1)[known] for tensor in (output, target))
    return 1 - functional.cosine_similarity(said, true).mean()


@dataclass(frozen=True)
class Case:
    """A kind of task: random answers, what is tested, and the plain formulas it must agree with."""

    answers: Callable[[], Pair]
    measure: Measure
    formula: Callable[[Array, Array], dict[str, float]]
    loss: Callable[[Tensor, Tensor], Tensor]
    plain_loss: Callable[[Tensor, Tensor], Tensor]


CASES = {
    "classes": Case(class_answers, CLASSES, class_formula, losses.cross_entropy, class_loss),
    "attribute": Case(attribute_answers, ATTRIBUTE, attribute_formula, losses.binary_cross_entropy, attribute_loss),
    "segmentation": Case(segmentation_answers, SEGMENTATION, segmentation_formula, losses.cross_entropy, class_loss),
    "depth": Case(depth_answers, DEPTH, depth_formula, losses.depth_loss, absolute_loss),
    "normals": Case(normal_answers, NORMALS, normal_formula, losses.normal_loss, angular_loss),
}
DENSE = ("segmentation", "depth", "normals")
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
dense_cases = pytest.mark.parametrize("case", [CASES[name] for name in DENSE], ids=DENSE)


def measured(measure: Measure, output: Tensor, target: Tensor, batch_size: int = BATCH) -> dict[str, float]:
    batches = zip(output.split(batch_size), target.split(batch_size), strict=True)
    return measure.compute([measure.update(*batch) for batch in batches])


def loss_and_gradient(case: Case, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = output.clone().requires_grad_()
    loss = case.loss(leaf, target)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@every_case
def test_metrics_agree_with_the_formulas(case: Case) -> None:
    output, target = case.answers()
    expected = case.formula(output.double().numpy(), target.numpy())
    assert measured(case.measure, output, target) == pytest.approx(expected, rel=1e-6, abs=0)
    assert [metric.key for metric in case.measure.metrics] == list(expected)
    assert all(value > 0 for value in expected.values())


@every_case
@for_every("batch_size", [1, 7])
def test_metrics_do_not_depend_on_the_batch_size(case: Case, batch_size: int) -> None:
    output, target = case.answers()
    whole = measured(case.measure, output, target)
    assert measured(case.measure, output, target, batch_size) == pytest.approx(whole, rel=1e-7, abs=0)


@every_case
def test_losses_agree_with_plain_torch(case: Case) -> None:
    output, target = case.answers()
    torch.testing.assert_close(case.loss(output, target), case.plain_loss(output, target), rtol=1e-6, atol=0)


@dense_cases
def test_predictions_do_not_count_where_nothing_is_known(case: Case) -> None:
    output, target = case.answers()
    nothing = unknown(target).expand_as(output)
    other = torch.where(nothing, 50 * torch.randn(output.shape), output)
    assert 0 < nothing.sum() < nothing.numel()
    assert measured(case.measure, other, target) == measured(case.measure, output, target)
    (loss, gradient), (other_loss, other_gradient) = (loss_and_gradient(case, o, target) for o in (output, other))
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)
    assert not gradient[nothing].any()
    assert gradient[~nothing].any()


@dense_cases
def test_every_known_prediction_counts(case: Case) -> None:
    output, target = case.answers()
    _, gradient = loss_and_gradient(case, output, target)
    assert torch.equal(gradient.any(dim=1, keepdim=True), ~unknown(target))


@dense_cases
@for_every("scale", [0.0, 1.0, 1e4])
def test_losses_are_zero_and_flat_where_nothing_is_known(case: Case, scale: float) -> None:
    output, target = case.answers()
    nothing = torch.full_like(target, losses.UNLABELLED if target.dim() == 3 else 0)
    loss, gradient = loss_and_gradient(case, scale * output, nothing)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(output))


@for_every(
    "said, true, f1",
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
        ([1, 0, 0, 0], [0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0], [1, 1, 0, 0], 0.0),
        ([0, 1, 0, 0], [1, 0, 0, 0], 0.0),
        ([1, 1, 1, 0], [1, 1, 0, 1], 2 / 3),
        ([1, 1, 1, 1], [1, 1, 1, 1], 1.0),
    ],
)
def test_f1_counts_positives_only(said: list[int], true: list[int], f1: float) -> None:
    output = torch.tensor(said).sub(0.5).unsqueeze(1)
    assert measured(ATTRIBUTE, output, torch.tensor(true))["f1"] == pytest.approx(f1)
    assert f1_score(true, said, zero_division=0) == pytest.approx(f1)


def test_the_right_answer_is_the_best() -> None:
    _, labels = segmentation_answers()
    right = functional.one_hot(labels.clamp_min(0), LABELS).movedim(-1, 1).float()
    assert measured(SEGMENTATION, right, labels) == {"miou": 1, "pixel_accuracy": 1}
    _, depth = depth_answers()
    assert measured(DEPTH, depth, depth) == {"absolute_error": 0, "relative_error": 0}
    _, normals = normal_answers()
    perfect = measured(NORMALS, normals, normals)
    angles, shares = ([v for k, v in perfect.items() if k.startswith("within") == within] for within in (False, True))
    assert angles == pytest.approx([0, 0], abs=0.05)  # the arc cosine of a float32 next to 1
    assert shares == [1, 1, 1]


@for_every("length", [1e-6, 1.0, 1e6])
def test_normals_are_directions(length: float) -> None:
    output, target = normal_answers()
    assert measured(NORMALS, length * output, target) == pytest.approx(measured(NORMALS, output, target), rel=1e-5)
    torch.testing.assert_close(losses.normal_loss(length * output, target), losses.normal_loss(output, target))


def test_the_median_angle_of_an_even_number_is_between_the_middle_two() -> None:
    angles = torch.tensor([10.0, 20.0, 40.0, 90.0]).deg2rad()
    output = torch.stack([angles.cos(), angles.sin(), torch.zeros(4)]).reshape(1, 3, 2, 2)
    target = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    expected = {"mean_angle": 40, "median_angle": 30, "within_11.25": 0.25, "within_22.5": 0.5, "within_30": 0.5}
    assert measured(NORMALS, output, target) == pytest.approx(expected, rel=1e-5)


@for_every("count", [1, 2, 3, 1000, 1001])
def test_the_median_angle_is_exact_whatever_the_batches(count: int) -> None:
    angles = (180 * torch.rand(count)).deg2rad()
    output = torch.stack([angles.cos(), angles.sin(), torch.zeros(count)], dim=1).reshape(count, 3, 1, 1)
    target = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(count, 3, 1, 1)
    seen = [NORMALS.update(*batch)[0] for batch in zip(output.split(7), target.split(7), strict=True)]
    median = float(np.median(torch.cat(seen).double().numpy()))  # of the very same float32 angles
    for batch_size in (7, 64, count):
        assert measured(NORMALS, output, target, batch_size)["median_angle"] == median


@dense_cases
def test_where_nothing_is_known_metrics_are_not_a_number(case: Case) -> None:
    output, target = case.answers()
    nothing = torch.full_like(target, losses.UNLABELLED if target.dim() == 3 else 0)
    assert all(math.isnan(value) for value in measured(case.measure, output, nothing).values())


@dense_cases
def test_the_items_of_dense_tasks_are_the_metrics_of_each_image_alone(case: Case) -> None:
    output, target = case.answers()
    target[3] = losses.UNLABELLED if target.dim() == 3 else 0
    items = case.measure.per_item(output, target)
    assert items.dtype == torch.float32 and items.shape == (BATCH, len(case.measure.metrics))
    assert items[3].isnan().all()
    for image in set(range(BATCH)) - {3}:
        one = slice(image, image + 1)
        expected = case.formula(output[one].double().numpy(), target[one].numpy())
        assert items[image].tolist() == pytest.approx(list(expected.values()), rel=1e-5, abs=0)


@for_every("name", ["classes", "attribute"])
def test_the_items_of_classification_are_correct_predictions(name: str) -> None:
    case = CASES[name]
    output, target = case.answers()
    items = case.measure.per_item(output, target)
    predicted = output.argmax(1) if name == "classes" else (output[:, 0] > 0).long()
    assert items.dtype == torch.bool and items.tolist() == [p == t for p, t in zip(predicted, target, strict=True)]
    assert items.double().mean() == pytest.approx(measured(case.measure, output, target)["accuracy"], rel=1e-15)


LEGACY = {"depth": CASES["depth"], "normals": CASES["normals"]}
legacy_cases = pytest.mark.parametrize("case", LEGACY.values(), ids=LEGACY)


@legacy_cases
@for_every("images", [1, 2, 8, BATCH])
def test_the_legacy_is_the_mean_over_batches_of_so_many_images(case: Case, images: int) -> None:
    output, target = case.answers()
    target[5:9] *= 0.0  # a whole batch of two in which nothing is known
    target[10:12, ..., 1:] *= 0.0  # and one in which little is
    batches = zip(output.double().numpy(), target.numpy(), strict=True)
    each = list(batches)
    values = []
    for start in range(0, BATCH, images):
        said, true = (np.stack(part) for part in zip(*each[start : start + images], strict=True))
        if true.any():
            values.append(case.formula(said, true))
    expected = {key: np.mean([value[key] for value in values]) for key in values[0]}
    legacy = averaged(case.measure, images)
    assert legacy.metrics == case.measure.metrics and legacy.per_item is case.measure.per_item
    for batch_size in (1, 5, BATCH):  # of the engine: it doesn't matter
        assert measured(legacy, output, target, batch_size) == pytest.approx(expected, rel=1e-6, abs=0)
    exact = measured(case.measure, output, target)
    same = measured(legacy, output, target) == pytest.approx(exact, rel=1e-4)
    assert same == (images == BATCH)


def test_runs_by_the_legacy_carry_it_as_an_override() -> None:
    exact, legacy = (resolve("nyuv2", "ew", assignments=settings) for settings in ({}, {"data.metrics_batch": 2}))
    assert (dict(exact.overrides), dict(legacy.overrides)) == ({}, {"data.metrics_batch": 2})
    assert legacy.settings.data.metrics_batch == 2
    assert exact.info is DATASETS["nyuv2"]
    (_, *dense), (_, *usual) = legacy.info.tasks, exact.info.tasks
    assert legacy.info.tasks[0] is exact.info.tasks[0]
    for changed, task in zip(dense, usual, strict=True):
        assert changed.measure.update is not task.measure.update
        assert (changed.key, changed.measure.metrics) == (task.key, task.measure.metrics)


def test_metrics_over_batches_of_less_than_nothing_are_refused() -> None:
    with pytest.raises(SpecError, match=r"data: `metrics_batch` must be ≥ 0, found -1"):
        resolve("nyuv2", "ew", assignments={"data.metrics_batch": -1})


@for_every("shape", [(8,), (2, 2, 2)])
def test_class_prior_by_hand(shape: tuple[int, ...]) -> None:
    labels = torch.tensor([0, 0, 1, 3, -1, -1, -1, -1]).reshape(shape)
    expected = torch.tensor([0.5, 0.25, 1e-12, 0.25]).log()
    torch.testing.assert_close(losses.class_prior(labels.split(1), 4), expected)


@for_every("ones, odds", [(1, 1 / 3), (2, 1.0), (0, 1e-6), (4, 1e6)])
def test_attribute_prior_by_hand(ones: int, odds: float) -> None:
    target = torch.tensor([1] * ones + [0] * (4 - ones), dtype=torch.uint8)
    torch.testing.assert_close(
        losses.attribute_prior(target.split(3)), torch.tensor([odds]).log(), rtol=1e-5, atol=1e-6
    )


def test_mean_depth_by_hand() -> None:
    assert losses.mean_depth(torch.tensor([0.0, 1.0, 0.0, 4.0]).reshape(2, 1, 1, 2).split(1)).tolist() == [2.5]


def test_mean_normal_by_hand() -> None:
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0], [0.6, -0.8, 0.0]])
    images = normals.T.reshape(3, 2, 2).movedim(1, 0).unsqueeze(2)  # two images of 1×2
    torch.testing.assert_close(losses.mean_normal(images.split(1)), torch.tensor([0.2, -0.6, 1 / 3]))


@for_every("name", ["office31", "officehome", "nyuv2", "celeba"])
def test_constant_answers_fit_the_losses_and_metrics_of_their_task(name: str) -> None:
    answers = {case.measure: case.answers for case in CASES.values()}
    for task in DATASETS[name].tasks:
        _, target = answers[task.measure]()
        constant = task.constant([target])
        assert constant.shape == (task.outputs,)
        extent = target.shape[-2:] if target.dim() > 1 else ()
        output = constant.reshape(1, -1, *[1] * len(extent)).expand(BATCH, -1, *extent)
        assert task.loss(output, target).isfinite()
        assert all(math.isfinite(value) for value in measured(task.measure, output, target).values())
