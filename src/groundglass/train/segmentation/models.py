"""The networks of segmenters: from images to logits of lung and lesion."""

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import segmentation_models_pytorch as smp
from torch import nn

from groundglass.errors import GroundglassError
from groundglass.recipe.tasks import SegmentationModel
from groundglass.train.models import timm_backbone
from groundglass.train.segmentation.bcdunet import BCDUNet

CLASSES = 2
"""Lungs, lesions included, and lesions."""


def build_segmentation_model(spec: SegmentationModel, channels: int) -> nn.Module:
    """Build the network of a segmenter's recipe.

    Parameters
    ----------
    spec
        The recipe's model part.
    channels
        Of the input.

    Raises
    ------
    GroundglassError
        If the encoder is unknown or its weights cannot be had.
    """
    if spec.name == "bcdunet":
        return BCDUNet(channels, CLASSES, spec.filters, spec.dense_blocks, spec.bidirectional)
    return _unet(spec, channels)


def _unet(spec: SegmentationModel, channels: int) -> nn.Module:
    # Built first: it names an unknown encoder, or weights that cannot be had, in a user's words.
    pretrained = timm_backbone(spec.encoder, spec.weights, channels)
    model = smp.Unet(
        f"tu-{spec.encoder}",
        encoder_weights=None,
        in_channels=channels,
        classes=CLASSES,
        decoder_channels=spec.decoder,
    )
    if spec.weights != "none":
        missing = model.encoder.model.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
        if missing:
            raise GroundglassError(
                f"model.encoder {spec.encoder}: its weights lack {len(missing)} of the encoder's, such as "
                f"{missing[0]}"
            )
    return model
