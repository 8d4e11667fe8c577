"""Make torchvision importable with a CPU build of torch.

torchvision's wheel on PyPI is a CUDA build. With the CPU build of torch its compiled operators do not load,
and its import fails with ``operator torchvision::nms does not exist``, since it registers a fake kernel for
them. timm, kornia and Lightning import torchvision, although nothing here calls those operators. Defining
their schemas is enough. If torchvision can be imported anyway, this does nothing. Import it before timm,
kornia or Lightning.
"""

import sys

import torch

_SCHEMAS = ("nms", "qnms")

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for _module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[_module]
    for _name in _SCHEMAS:
        torch.library.define(
            f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    import torchvision  # noqa: F401
