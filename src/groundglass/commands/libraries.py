"""Whether the libraries of the extra ``train`` are here."""

from importlib.util import find_spec

from groundglass.errors import MissingExtraError

TRAINING = (
    "torch",
    "lightning",
    "timm",
    "kornia",
    "segmentation_models_pytorch",
    "monai",
    "onnx",
    "skl2onnx",
)


def need_training_libraries() -> None:
    """Raise MissingExtraError, which names the remedy, where one is missing."""
    for name in TRAINING:
        if find_spec(name) is None:
            raise MissingExtraError("train", name)
