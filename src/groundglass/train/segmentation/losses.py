"""The loss of a segmenter."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundglass.recipe.tasks import SegmentationLoss


class MaskLoss(nn.Module):
    """Binary cross-entropy by pixel, and one minus soft Dice (Milletari et al. 2016, arXiv 1606.04797).

    Dice is taken over the whole batch at once, so that a slice without lesions does not count as a whole.

    Parameters
    ----------
    spec
        The recipe's loss part.
    """

    def __init__(self, spec: SegmentationLoss) -> None:
        super().__init__()
        self.register_buffer("bce", torch.tensor([spec.lungs_bce, spec.lesions_bce]), persistent=False)
        self.register_buffer("dice", torch.tensor([spec.lungs_dice, spec.lesions_dice]), persistent=False)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Loss of logits and masks (0 or 1), both of shape (batch, 2, height, width)."""
        truth = masks.to(logits.dtype)
        by_pixel = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=(0, 2, 3))
        chance = torch.sigmoid(logits)
        common = (chance * truth).sum(dim=(0, 2, 3))
        dice = (2 * common + 1) / ((chance + truth).sum(dim=(0, 2, 3)) + 1)
        weighted: Tensor = (self.get_buffer("bce") * by_pixel + self.get_buffer("dice") * (1 - dice)).sum()
        return weighted
