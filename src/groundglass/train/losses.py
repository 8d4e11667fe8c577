"""Losses on the logits of a classifier and of masks."""

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from groundglass.recipe.parts import Loss
from groundglass.recipe.tasks import SegmentationLoss


def make_loss(spec: Loss, counts: ArrayLike) -> nn.Module:
    """The loss of a recipe.

    Parameters
    ----------
    spec
        The recipe's loss part.
    counts
        Number of training slices of each class: of controls and covid for one logit, else of every class.
    """
    numbers = torch.as_tensor(counts, dtype=torch.float32)
    weights = torch.ones(len(numbers))
    if spec.class_weights == "balanced":
        # A class without slices must not make the weights of the other classes infinite.
        weights = numbers.sum() / (len(numbers) * numbers.clamp(min=1))
    return BinaryLoss(spec, weights) if len(numbers) == 2 else ClassLoss(spec, weights)


class BinaryLoss(nn.Module):
    """Binary cross-entropy or focal loss, with optional class weights and label smoothing.

    Focal loss: ``(1 - p_t) ** gamma`` times the cross-entropy (Lin et al. 2017, arXiv 1708.02002), and, if
    ``alpha`` is given, times ``alpha`` for positives and ``1 - alpha`` for negatives.

    Parameters
    ----------
    spec
        The recipe's loss part.
    weights
        Of negatives and positives, shape (2,).
    """

    def __init__(self, spec: Loss, weights: Tensor) -> None:
        super().__init__()
        self.gamma = spec.gamma if spec.name == "focal" else 0.0
        self.smoothing = spec.label_smoothing
        if spec.name == "focal" and spec.alpha is not None:
            weights = weights * torch.tensor([1 - spec.alpha, spec.alpha])
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Mean loss of logits and truth (1 positive, 0 negative), both of shape (batch,)."""
        truth = truth.to(logits.dtype)
        target = truth * (1 - self.smoothing) + self.smoothing / 2
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.gamma:
            signed = torch.where(truth > 0.5, logits, -logits)
            loss = loss * torch.sigmoid(-signed) ** self.gamma
        return (loss * self.get_buffer("weights")[truth.long()]).mean()


class ClassLoss(nn.Module):
    """Cross-entropy of several classes or its focal loss, with optional class weights and label smoothing.

    Parameters
    ----------
    spec
        The recipe's loss part.
    weights
        Of the classes, shape (classes,).
    """

    def __init__(self, spec: Loss, weights: Tensor) -> None:
        super().__init__()
        self.gamma = spec.gamma if spec.name == "focal" else 0.0
        self.smoothing = spec.label_smoothing
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Mean loss of logits, shape (batch, classes), and truth, the class's number, shape (batch,)."""
        loss = F.cross_entropy(logits, truth, reduction="none", label_smoothing=self.smoothing)
        if self.gamma:
            likely = torch.softmax(logits, dim=1).gather(1, truth[:, None])[:, 0]
            loss = loss * (1 - likely).clamp(min=1e-12) ** self.gamma
        return (loss * self.get_buffer("weights")[truth]).mean()


UNKNOWN = 2
"""Added to a pixel of a training mask, 0 or 1, that is not a target because nobody marked it."""


def lungs_and_lesions(logits: Tensor) -> Tensor:
    """Logits of lungs and of lesions of either type, shape (batch, 2, height, width), of a segmenter's logits.

    A network that distinguishes lesion types gives logits of lungs, ground glass and consolidation. The
    softmax of 0 (neither) and the last two gives their probabilities, and the logit of the sum of these is
    the logarithm of the sum of their exponentials.
    """
    if logits.shape[1] == 2:
        return logits
    return torch.cat([logits[:, :1], torch.logsumexp(logits[:, 1:], dim=1, keepdim=True)], dim=1)


def mask_probabilities(logits: Tensor) -> Tensor:
    """Probabilities of lungs and lesions, or of lungs and each lesion type, of a segmenter's logits."""
    if logits.shape[1] == 2:
        return torch.sigmoid(logits)
    neither_first = torch.cat([torch.zeros_like(logits[:, :1]), logits[:, 1:]], dim=1)
    return torch.cat([torch.sigmoid(logits[:, :1]), torch.softmax(neither_first, dim=1)[:, 1:]], dim=1)


class MaskLoss(nn.Module):
    """Binary cross-entropy by pixel, and one minus soft Dice (Milletari et al. 2016, arXiv 1606.04797).

    Dice is computed over the whole batch at once, so that a slice without lesions does not count as much as
    one with them. If the network distinguishes lesion types, the cross-entropy of the type is added, over the
    lesions whose type is known; for lesions of unknown type, the sum of both probabilities is trained.

    Parameters
    ----------
    spec
        The recipe's loss part.
    """

    def __init__(self, spec: SegmentationLoss) -> None:
        super().__init__()
        self.register_buffer("bce", torch.tensor([spec.lungs_bce, spec.lesions_bce]), persistent=False)
        self.register_buffer("dice", torch.tensor([spec.lungs_dice, spec.lesions_dice]), persistent=False)
        self.types = spec.types

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Loss of logits, shape (batch, 2 or 3, height, width), and masks of the same shape.

        The masks are those of lungs, lesions and consolidation, 0 or 1, with :data:`UNKNOWN` added where they
        are not targets.
        """
        known = (masks < UNKNOWN).to(logits.dtype)
        truth = (masks % UNKNOWN).to(logits.dtype)
        pair, taught, marked = lungs_and_lesions(logits), known[:, :2], truth[:, :2] * known[:, :2]
        by_pixel = F.binary_cross_entropy_with_logits(pair, marked, weight=taught, reduction="none")
        by_pixel = by_pixel.sum(dim=(0, 2, 3)) / taught.sum(dim=(0, 2, 3)).clamp(min=1)
        chance = torch.sigmoid(pair) * taught
        common = (chance * marked).sum(dim=(0, 2, 3))
        dice = (2 * common + 1) / ((chance + marked).sum(dim=(0, 2, 3)) + 1)
        weighted: Tensor = (self.get_buffer("bce") * by_pixel + self.get_buffer("dice") * (1 - dice)).sum()
        if logits.shape[1] == 2:
            return weighted
        typed = marked[:, 1] * known[:, 2]
        by_type = F.binary_cross_entropy_with_logits(
            logits[:, 2] - logits[:, 1], truth[:, 2], weight=typed, reduction="none"
        )
        return weighted + self.types * by_type.sum() / typed.sum().clamp(min=1)
