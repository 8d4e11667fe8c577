"""The recipe of a detector whose evidence is lesions."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from groundglass.bundle.engine import Precision
from groundglass.train.parts import (
    Augmentation,
    Count,
    DetectorRecipe,
    Length,
    Loss,
    Positive,
    RecipePart,
    Share,
    Source,
)
from groundglass.train.segmentation.recipe import SegmentationLoss

SIDE_STEP = 32
"""What the sides of the network's input must be multiples of: a U-Net halves it five times."""


class GroundedModel(RecipePart):
    """The network: a segmenter's U-Net, which goes on learning masks, and a head on what it marks as lesion.

    ``segmenter`` names the shipped segmenter, or the path of a segmenter's run or bundle, whose U-Net it starts
    from. ``frozen`` is the number of the encoder's stages that stay as they were there.

    The logit is ``presence * log(1 + share / faint)``, of the lesion share, plus what the lesions look like: the
    mean over places, weighted by lesion probability, of a judgement between ``-bound`` and ``bound``, computed
    from the features at a place through ``hidden`` units with ``dropout``. ``presence`` is fixed, not learned: in
    a set whose other patients have lesions too, training would unlearn that COVID-19 needs a lesion. ``emphasis``
    multiplies it once trained, for hospitals where fewer of the other patients have lesions; where the answer is
    open by the lesion share alone, it stays open.
    """

    segmenter: str = "lungs-lite0"
    frozen: Annotated[int, Field(ge=0, le=7)] = 3
    presence: Annotated[float, Field(ge=0)] = 1.0
    emphasis: Positive = 1.0
    faint: Positive = 0.001
    bound: Positive = 4.0
    hidden: Count = 64
    dropout: Share = 0.1


class GroundedAugmentation(Augmentation):
    """As of other detectors, for slices with masks too.

    ``upside_down`` is the chance of a slice with masks to be turned top to bottom. ``painted`` is the chance of a
    slice without COVID-19 and with hardly a lesion to get lesions of another kind painted in, such as nodules,
    honeycombing or a consolidated lobe, so that a lesion alone is no COVID-19.
    """

    upside_down: Annotated[float, Field(ge=0, le=1)] = 0.0
    painted: Annotated[float, Field(ge=0, le=1)] = 0.0


class GroundedLoss(Loss):
    """The loss of the answer, ``weight`` times, and of the masks."""

    weight: Positive = 0.5
    masks: SegmentationLoss = SegmentationLoss()


class GroundedTraining(Length):
    """Length of the run, and which epoch is kept.

    An epoch has ``steps`` batches. Each holds ``batch_size`` slices with an answer, as many of each source and
    class, and ``masks_batch`` slices with masks.
    """

    steps: Count = 50
    masks_batch: Count = 8
    best_by: Literal["val_auc", "val_loss", "last"] = "last"


class GroundedRecipe(DetectorRecipe):
    """Everything that a detector whose evidence is lesions depends on.

    ``masks`` is the dataset with masks of lungs and lesions; its labels take no part.
    """

    task: Literal["grounded"]
    masks: Source = Source(dataset="covid19-ct-seg", split="grouped")
    model: GroundedModel = GroundedModel()
    augmentation: GroundedAugmentation = GroundedAugmentation()
    loss: GroundedLoss = GroundedLoss()
    training: GroundedTraining = GroundedTraining()
    deploy_precision: Precision = "f32"

    @model_validator(mode="after")
    def _fits(self) -> "GroundedRecipe":
        if self.data.several:
            raise ValueError("a grounded detector answers yes or no: name two labels in data.classes")
        if any(side % SIDE_STEP for side in self.preprocessing.size):
            raise ValueError(f"preprocessing.size: the sides go in steps of {SIDE_STEP}")
        if self.augmentation.mixup or self.augmentation.erase:
            raise ValueError("augmentation.mixup and erase would leave masks behind: leave them out")
        if self.loss.class_weights != "none":
            raise ValueError("loss.class_weights: batches hold as many of each class already; leave it out")
        if self.augmentation.painted and self.preprocessing.greys != "landmarks":
            raise ValueError(
                "augmentation.painted draws in greys of landmarks: set preprocessing.greys to that"
            )
        if self.preprocessing.lungs == "none":
            raise ValueError("preprocessing.lungs: crop, mask or only; lesions are judged within the lungs")
        return self
