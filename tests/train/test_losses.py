import math

import pytest
import torch
import torch.nn.functional as F

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
from torchvision.ops import sigmoid_focal_loss

from groundglass.recipe.parts import Loss
from groundglass.train.losses import make_loss

LOGITS = torch.tensor([2.0, -1.0, 0.5, -3.0])
TRUTH = torch.tensor([True, True, False, False])


def test_cross_entropy_by_hand() -> None:
    expected = sum(math.log1p(math.exp(x)) for x in (-2.0, 1.0, 0.5, -3.0)) / 4
    assert make_loss(Loss(), [2, 2])(LOGITS, TRUTH).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 4.0])
def test_focal_loss_is_torchvisions(alpha: float | None, gamma: float) -> None:
    loss = make_loss(Loss(name="focal", gamma=gamma, alpha=alpha), [2, 2])
    reference = sigmoid_focal_loss(LOGITS, TRUTH.float(), -1 if alpha is None else alpha, gamma, "mean")
    torch.testing.assert_close(loss(LOGITS, TRUTH), reference)


def test_balanced_weights_make_the_classes_equal() -> None:
    loss = make_loss(Loss(class_weights="balanced"), [3, 1])
    logits, truth = torch.zeros(4), torch.tensor([True, False, False, False])
    torch.testing.assert_close(loss(logits, truth), torch.tensor(math.log(2)))
    assert loss.get_buffer("weights").tolist() == pytest.approx([4 / 6, 2.0])


def test_smoothing_moves_the_optimum_inwards() -> None:
    loss = make_loss(Loss(label_smoothing=0.2), [1, 1])
    best = math.log(0.9 / 0.1)
    at = [loss(torch.tensor([x]), torch.tensor([True])).item() for x in (best - 0.1, best, best + 0.1)]
    assert at[1] < min(at[0], at[2])


def test_focal_loss_and_its_gradient_by_hand() -> None:
    """A positive slice with p = 0.8 and gamma 4: the loss is 0.2 ** 4 * -ln 0.8 = 0.000357030.

    Its derivative by the logit, with p_t = p: p (1 - p) times d/dp of -(1 - p)^4 ln p, which is
    4 (1 - p)^3 ln p - (1 - p)^4 / p = 4 * 0.008 * -0.223144 - 0.0016 / 0.8 = -0.00914059; times 0.16: -0.00146249.
    """
    loss = make_loss(Loss(name="focal", gamma=4), [1, 1])
    logit = torch.tensor([math.log(4.0)], requires_grad=True)
    value = loss(logit, torch.tensor([1]))
    value.backward()
    assert value.item() == pytest.approx(0.000357030, rel=1e-5)
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(-0.00146249, rel=1e-5)


def test_focal_loss_of_several_classes_by_hand() -> None:
    """Probabilities 0.7, 0.2, 0.1: with gamma 2 and the second class true, 0.8 ** 2 * -ln 0.2 = 1.030040."""
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1]]))
    loss = make_loss(Loss(name="focal", gamma=2), [1, 1, 1])
    assert loss(logits, torch.tensor([1])).item() == pytest.approx(1.030040, rel=1e-5)


def test_two_logits_against_one() -> None:
    """Cross-entropy over (0, x, minus infinity) is binary cross-entropy of x."""
    binary = make_loss(Loss(), [1, 1])(LOGITS, TRUTH)
    several = torch.stack([torch.zeros(4), LOGITS, torch.full((4,), -1e4)], dim=1)
    torch.testing.assert_close(make_loss(Loss(), [1, 1, 1])(several, TRUTH.long()), binary)


def test_balanced_weights_of_several_classes() -> None:
    loss = make_loss(Loss(class_weights="balanced", label_smoothing=0.1), [6, 3, 0])
    logits, truth = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 0])
    weights = torch.tensor([0.5, 1.0, 9 / 3])
    plain = F.cross_entropy(logits, truth, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, truth), (plain * weights[truth]).mean())
