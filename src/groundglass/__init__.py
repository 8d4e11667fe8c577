"""Groundglass: COVID-19 detection in chest CT. Research use; not a medical device.

The names below are loaded when they are first used, so that ``import groundglass`` stays fast.
"""

import logging
from importlib import import_module
from typing import Any

__version__ = "0.2.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the user of a library chooses handlers

_HOME = {
    "Bundle": "groundglass.detect.bundle",
    "Detector": "groundglass.detect.detector",
    "Findings": "groundglass.detect.findings",
    "GroundglassError": "groundglass.errors",
    "Manifest": "groundglass.data.datasets",
    "Preprocessing": "groundglass.preprocess",
    "Recipe": "groundglass.recipe.parts",
    "Scan": "groundglass.scan.scan",
    "ScanError": "groundglass.errors",
    "Segmenter": "groundglass.segment.segmenter",
    "Volume": "groundglass.scan.volume",
    "evaluate": "groundglass.commands.evaluate",
    "find_series": "groundglass.scan.find",
    "make_phantom": "groundglass.phantom",
    "read": "groundglass.scan.read",
}
"""Where each public name is defined; ``__init__.pyi`` tells type checkers the same."""
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'groundglass' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from groundglass.errors import missing_extra

        raise missing_extra(error) or error from error


def __dir__() -> list[str]:
    return sorted(__all__)
