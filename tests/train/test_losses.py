import math

import pytest
import torch

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
from torchvision.ops import sigmoid_focal_loss

from groundglass.train.losses import BinaryLoss
from groundglass.train.recipe import Loss

LOGITS = torch.tensor([2.0, -1.0, 0.5, -3.0])
TRUTH = torch.tensor([True, True, False, False])


def test_cross_entropy_by_hand() -> None:
    expected = sum(math.log1p(math.exp(x)) for x in (-2.0, 1.0, 0.5, -3.0)) / 4
    assert BinaryLoss(Loss(), 2, 2)(LOGITS, TRUTH).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 4.0])
def test_focal_loss_is_torchvisions(alpha: float | None, gamma: float) -> None:
    loss = BinaryLoss(Loss(name="focal", gamma=gamma, alpha=alpha), 2, 2)
    reference = sigmoid_focal_loss(LOGITS, TRUTH.float(), -1 if alpha is None else alpha, gamma, "mean")
    torch.testing.assert_close(loss(LOGITS, TRUTH), reference)


def test_balanced_weights_make_the_classes_equal() -> None:
    loss = BinaryLoss(Loss(class_weights="balanced"), positives=1, negatives=3)
    logits, truth = torch.zeros(4), torch.tensor([True, False, False, False])
    torch.testing.assert_close(loss(logits, truth), torch.tensor(math.log(2)))
    assert loss.get_buffer("weights").tolist() == pytest.approx([4 / 6, 2.0])


def test_smoothing_moves_the_optimum_inwards() -> None:
    loss = BinaryLoss(Loss(label_smoothing=0.2), 1, 1)
    best = math.log(0.9 / 0.1)
    at = [loss(torch.tensor([x]), torch.tensor([True])).item() for x in (best - 0.1, best, best + 0.1)]
    assert at[1] < min(at[0], at[2])
