"""Losses on one logit for the positive class."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundglass.train.recipe import Loss


class BinaryLoss(nn.Module):
    """Binary cross-entropy or focal loss, with optional class weights and label smoothing.

    Focal loss: ``(1 - p_t) ** gamma`` times the cross-entropy (Lin et al. 2017, arXiv 1708.02002), and times
    ``alpha`` for positives and ``1 - alpha`` for negatives where it is given.

    Parameters
    ----------
    spec
        The recipe's loss part.
    positives, negatives
        Number of slices of each class in the training part; ``balanced`` weighs a class by the inverse of its
        frequency, such that the mean weight is 1.
    """

    def __init__(self, spec: Loss, positives: int, negatives: int) -> None:
        super().__init__()
        self.gamma = spec.gamma if spec.name == "focal" else 0.0
        self.smoothing = spec.label_smoothing
        weights = torch.ones(2)
        if spec.class_weights == "balanced":
            total = positives + negatives
            weights = torch.tensor([total / (2 * negatives), total / (2 * positives)])
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
