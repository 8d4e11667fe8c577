"""Training: data, networks, one loop for all tasks, and the export of a bundle. Needs the extra ``train``."""

import os
from importlib.util import find_spec

from groundglass.errors import MissingExtraError

# Large pages for torch's memory, where the system offers them: a small CNN trains up to twice as fast. torch
# reads this once, at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

LIBRARIES = (
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
    """Raise MissingExtraError, which names the remedy, where a library of the extra ``train`` is missing."""
    for name in LIBRARIES:
        if find_spec(name) is None:
            raise MissingExtraError("train", name)
