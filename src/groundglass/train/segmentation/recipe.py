"""The recipe of a segmenter."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from groundglass.bundle.engine import Precision
from groundglass.segment.masks import PostProcessing
from groundglass.train.parts import CommonRecipe, Count, Length, RecipePart, Share

Chance = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
STEPS = {"unet": 32, "bcdunet": 8}
"""What the sides of a network's input must be multiples of."""


class SegmentationAugmentation(RecipePart):
    """Random changes that turn a training slice into what users have: figures cut from papers, other windows.

    The chances: ``flip`` left to right, ``upside_down`` top to bottom, ``crop`` towards or slightly into the
    lungs, ``piece`` of a crop anywhere, ``zoom_out`` of a border round the slice, ``frame`` of a black or white
    one, ``window`` of another level and width, ``mediastinal`` of one among these that shows the lungs black,
    ``marks`` of text, arrows and circles, ``jpeg`` of compression, ``gas`` of pockets of air in the body that are
    no lung, as in stomach and bowel, ``no_lungs`` of lungs filled up with tissue, as in neck and abdomen, and
    ``not_ct`` of a picture of something else in place of the slice, the last two with empty masks.

    The sizes: ``rotation`` in degrees, ``aspect``, ``shear`` and ``gamma`` (of its logarithm) as standard
    deviations; ``bias`` that of a smooth brightness, ``noise`` the largest of grey; ``blur`` the largest sigma in
    pixels, and ``resolution`` the largest factor by which a slice is shrunk and enlarged again.
    """

    flip: Chance = 0.0
    upside_down: Chance = 0.0
    crop: Chance = 0.0
    piece: Chance = 0.0
    zoom_out: Chance = 0.0
    frame: Chance = 0.0
    window: Chance = 0.0
    mediastinal: Chance = 0.0
    marks: Chance = 0.0
    jpeg: Chance = 0.0
    gas: Chance = 0.0
    no_lungs: Chance = 0.0
    not_ct: Chance = 0.0
    rotation: Annotated[float, Field(ge=0, le=45)] = 0.0
    aspect: Share = 0.0
    shear: Share = 0.0
    gamma: Share = 0.0
    bias: Share = 0.0
    noise: Share = 0.0
    blur: Annotated[float, Field(ge=0, le=5)] = 0.0
    resolution: Annotated[float, Field(ge=1, le=8)] = 1.0

    @model_validator(mode="after")
    def _one_framing(self) -> "SegmentationAugmentation":
        if self.crop + self.piece + self.zoom_out > 1:
            raise ValueError(
                "crop, piece and zoom_out exclude one another: their chances add up to 1 at most"
            )
        return self


class SegmentationModel(RecipePart):
    """The network.

    ``unet`` is a U-Net of segmentation-models-pytorch with the timm backbone ``encoder``, whose ``weights`` are
    ``none``, ``imagenet`` or the path of a safetensors file, and ``decoder`` channels. ``bcdunet`` is BCD U-Net
    with ``filters`` in its first level, ``dense_blocks`` in its bottleneck, and ConvLSTM in both directions or one.
    """

    name: Literal["unet", "bcdunet"] = "unet"
    encoder: str = "tf_efficientnet_lite0"
    weights: str = "none"
    decoder: tuple[Count, Count, Count, Count, Count] = (128, 64, 48, 32, 16)
    filters: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    dense_blocks: Literal[1, 3] = 3
    bidirectional: bool = True


class SegmentationLoss(RecipePart):
    """Weighted sum of binary cross-entropy and of one minus soft Dice over the batch (Milletari et al. 2016,
    arXiv 1606.04797), for lungs and for lesions.
    """

    lungs_bce: Weight = 1.0
    lesions_bce: Weight = 2.0
    lungs_dice: Weight = 0.5
    lesions_dice: Weight = 1.0


class Smaller(RecipePart):
    """The first ``epochs`` at a smaller input: they cost less and learn most of it."""

    epochs: Count
    size: tuple[Count, Count]


class SegmentationTraining(Length):
    """Length of the run, and how the epoch to keep is chosen on the validation part.

    ``val_dice`` is the mean of ``val_lung_dice`` and ``val_lesion_dice``, each the mean over cases; ``last`` keeps
    the last epoch. ``start_from`` names a run of the same network whose weights this one starts from.
    """

    best_by: Literal["val_dice", "val_lung_dice", "val_lesion_dice", "val_loss", "last"] = "val_dice"
    smaller_first: Smaller | None = None
    start_from: str | None = None


class SegmentationRecipe(CommonRecipe):
    """Everything that the training of a segmenter depends on."""

    task: Literal["segmentation"]
    augmentation: SegmentationAugmentation = SegmentationAugmentation()
    model: SegmentationModel = SegmentationModel()
    loss: SegmentationLoss = SegmentationLoss()
    training: SegmentationTraining = SegmentationTraining()
    post_processing: PostProcessing = PostProcessing()
    deploy_precision: Precision = "f32"

    @model_validator(mode="after")
    def _size_fits(self) -> "SegmentationRecipe":
        step = STEPS[self.model.name]
        smaller = self.training.smaller_first
        if smaller and smaller.epochs >= self.training.epochs:
            raise ValueError(
                "training.smaller_first.epochs leaves no epoch of training.epochs at the full size"
            )
        for size in (self.preprocessing.size, *([smaller.size] if smaller else [])):
            if any(side % step for side in size):
                raise ValueError(
                    f"{self.model.name} halves its input until it needs sizes in steps of {step}: {size}"
                )
        return self

    @model_validator(mode="after")
    def _sees_whole_slices(self) -> "SegmentationRecipe":
        if self.preprocessing.lungs != "none":
            raise ValueError("preprocessing.lungs: a segmenter finds the lungs and cannot be given them")
        return self
