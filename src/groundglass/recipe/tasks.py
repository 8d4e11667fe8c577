"""The recipes of segmenters, of detectors from deep features, and of detectors that look only at lesions."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from groundglass.bundle.engine import Precision
from groundglass.recipe.parts import (
    Count,
    DetectorRecipe,
    Length,
    Positive,
    Recipe,
    RecipePart,
    Share,
    Trainer,
)
from groundglass.segment.masks import PostProcessing

Chance = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
STEPS = {"unet": 32, "bcdunet": 8}
"""The sides of a network's input must be multiples of this."""


class SegmentationAugmentation(RecipePart):
    """Random changes that imitate users' slices: figures cut from papers, other windows.

    The chances: ``flip`` left to right, ``upside_down`` top to bottom, ``crop`` towards or slightly into the
    lungs, ``piece`` of a crop anywhere, ``zoom_out`` of a border around the slice, ``frame`` of a black or
    white one, ``window`` of another level and width, ``mediastinal`` of a window that shows the lungs black,
    ``focus`` of a crop to the lungs in which aerated lung and soft tissue have fixed greys (those of
    groundglass.preprocess.to_landmarks), ``marks`` of text, arrows and circles, ``jpeg`` of compression,
    ``gas`` of pockets of air outside the lungs, as in stomach and bowel, ``no_lungs`` of lungs filled with
    tissue, as in neck and abdomen, and ``not_ct`` of a picture of something else instead of the slice, the
    last two with empty masks.

    The sizes: ``rotation`` in degrees, ``aspect``, ``shear`` and ``gamma`` (of its logarithm) as standard
    deviations; ``bias`` the standard deviation of a smooth brightness, ``noise`` the largest one of grey;
    ``blur`` the largest sigma in pixels, and ``resolution`` the largest factor by which a slice is shrunk and
    enlarged again.
    """

    flip: Chance = 0.0
    upside_down: Chance = 0.0
    crop: Chance = 0.0
    piece: Chance = 0.0
    zoom_out: Chance = 0.0
    frame: Chance = 0.0
    window: Chance = 0.0
    mediastinal: Chance = 0.0
    focus: Chance = 0.0
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
                "crop, piece and zoom_out exclude one another: their chances may add up to 1 at most"
            )
        return self


class SegmentationModel(RecipePart):
    """The network.

    ``unet`` is a U-Net of segmentation-models-pytorch with the timm backbone ``encoder``, whose ``weights``
    are ``none``, ``imagenet`` or the path of a safetensors file, and ``decoder`` channels. ``bcdunet`` is BCD
    U-Net with ``filters`` in its first level, ``dense_blocks`` in its bottleneck, and ConvLSTM in both
    directions or one. With ``lesion_types`` the network distinguishes ground glass from consolidation, else
    it marks lesions of either type.
    """

    name: Literal["unet", "bcdunet"] = "unet"
    encoder: str = "tf_efficientnet_lite0"
    weights: str = "none"
    decoder: tuple[Count, Count, Count, Count, Count] = (128, 64, 48, 32, 16)
    filters: Annotated[int, Field(ge=2, multiple_of=2)] = 64
    dense_blocks: Literal[1, 3] = 3
    bidirectional: bool = True
    lesion_types: bool = False


class SegmentationLoss(RecipePart):
    """Weighted sum of binary cross-entropy and of one minus soft Dice over the batch (Milletari et al. 2016,
    arXiv 1606.04797), for lungs and for lesions, and of the cross-entropy of the lesions' type, ``types``.
    """

    lungs_bce: Weight = 1.0
    lesions_bce: Weight = 2.0
    lungs_dice: Weight = 0.5
    lesions_dice: Weight = 1.0
    types: Weight = 1.0


class Smaller(RecipePart):
    """Train the first ``epochs`` on smaller inputs, which are cheaper and sufficient for most of the learning."""

    epochs: Count
    size: tuple[Count, Count]


class SegmentationTraining(Length):
    """Length of the run, and how the epoch to keep is chosen on the validation set.

    ``val_dice`` is the mean of ``val_lung_dice`` and ``val_lesion_dice``, each the mean over cases; ``last``
    keeps the last epoch. ``start_from`` names a run of the same network whose weights this one starts from,
    and ``keep_start`` is their share in the final weights, which are the mean of both: this reduces
    forgetting (Wortsman et al. 2022, arXiv 2109.01903). The last convolution is not averaged.

    ``lungs_from`` names the segmenter that finds the lungs of slices without lung masks; these are used for
    cropping only, not as targets. Each slice then contributes the lungs, lesions and types that its dataset
    marks, and a slice with no marks is not used. Without ``lungs_from``, every slice needs masks of lungs and
    lesions.

    ``repeat`` gives, by source, how many times an epoch uses each of its training slices (once by default), so that
    a small source that alone marks lesion types still counts beside larger ones.
    """

    best_by: Literal["val_dice", "val_lung_dice", "val_lesion_dice", "val_loss", "last"] = "val_dice"
    smaller_first: Smaller | None = None
    start_from: str | None = None
    keep_start: Share = 0.0
    lungs_from: str | None = None
    repeat: dict[str, Count] = Field(default_factory=dict)


class SegmentationRecipe(Recipe):
    """Everything that a segmenter's training depends on."""

    task: Literal["segmentation"]
    augmentation: SegmentationAugmentation = SegmentationAugmentation()
    model: SegmentationModel = SegmentationModel()
    loss: SegmentationLoss = SegmentationLoss()
    training: SegmentationTraining = SegmentationTraining()
    trainer: Trainer = Trainer()
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
                raise ValueError(f"{self.model.name} needs sizes that are multiples of {step}: {size}")
        return self

    @model_validator(mode="after")
    def _sees_whole_slices(self) -> "SegmentationRecipe":
        if self.preprocessing.lungs != "none":
            raise ValueError("preprocessing.lungs: a segmenter finds the lungs and cannot be given them")
        return self


ClassifierName = Literal["svm-rbf", "svm-linear", "logistic", "knn", "forest"]
Backbone = Annotated[str, Field(pattern=r"^timm/.+")]


class FeatureModel(RecipePart):
    """The frozen network: ``timm/NAME`` for any timm backbone with a feature map.

    ``weights`` is ``imagenet`` (from the folder GROUNDGLASS_WEIGHTS, else timm's download), ``none`` or the
    path of a safetensors file; if they are not available, the backbone ``substitute`` is used, and the run
    reports it.
    """

    name: Backbone
    weights: str = "imagenet"
    substitute: Backbone | None = None


class FeaturesRecipe(DetectorRecipe):
    """Everything that a detector from deep features depends on.

    Each of the ``classifiers`` is tuned by cross-validation on the training set, in ``folds`` that keep a
    patient's slices together, and the best is kept.
    """

    task: Literal["features"] = "features"
    model: FeatureModel
    classifiers: Annotated[tuple[ClassifierName, ...], Field(min_length=1)] = get_args(ClassifierName)
    folds: Annotated[int, Field(ge=2)] = 5

    @model_validator(mode="after")
    def _yes_or_no(self) -> "FeaturesRecipe":
        if self.data.several:
            raise ValueError("a features recipe answers yes or no: name only two labels in data.classes")
        return self


SIDE_STEP = 32
"""The sides of the network's input must be multiples of this: a U-Net halves it five times."""


class GroundedModel(RecipePart):
    """The network: a segmenter that is not trained further, with a linear head on the lesions that it marks.

    ``segmenter`` names the shipped segmenter, or the path of a segmenter's run or bundle. The head weighs the
    features of the lesions, their mean weighted by lesion probability, and the logarithm of the lesion share.
    It is fitted by logistic regression, with equal weight for both classes and for the sources within a
    class. ``strength`` is the inverse of the penalty on the weights of the features, scikit-learn's ``C``.
    """

    segmenter: str = "lungs-lite0"
    strength: Positive = 0.01


class GroundedRecipe(DetectorRecipe):
    """Everything that a detector whose evidence is lesions depends on."""

    task: Literal["grounded"]
    model: GroundedModel = GroundedModel()
    deploy_precision: Precision = "f32"

    @model_validator(mode="after")
    def _fits(self) -> "GroundedRecipe":
        if self.data.several:
            raise ValueError("a grounded recipe answers yes or no: name only two labels in data.classes")
        if any(side % SIDE_STEP for side in self.preprocessing.size):
            raise ValueError(f"preprocessing.size: the sides must be multiples of {SIDE_STEP}")
        if self.preprocessing.lungs == "none":
            raise ValueError("preprocessing.lungs: crop, mask or only; lesions are judged within the lungs")
        return self
