"""Errors that a user can cause and fix; the command prints them as one line, without a traceback."""

import traceback
from importlib.util import find_spec
from pathlib import Path


class GroundglassError(Exception):
    """Any error that the user can fix; the message says how."""


class BundleError(GroundglassError):
    """A bundle that is missing, damaged, of another kind or made for another version."""


class ScanError(GroundglassError):
    """A file that cannot be read as a chest CT slice.

    Parameters
    ----------
    path
        The file concerned.
    problem
        What is wrong with it, without a full stop.
    remedy
        What the user can do about it, without a full stop.
    """

    def __init__(self, path: Path | str, problem: str, remedy: str = "") -> None:
        self.path = Path(path)
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{path}: {problem}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type, tuple[Path, str, str]]:
        return type(self), (self.path, self.problem, self.remedy)


def place_of(error: Exception) -> str:
    """The place where an internal error was raised, without its text, which may quote a header."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(at.filename).name}, line {at.lineno}"


def count_of(number: int, noun: str, plural: str = "") -> str:
    """A count with its noun, such as "1 slice" or "2 slices", for messages."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


EXTRAS = {
    "evaluate": ("faiss", "matplotlib", "onnxruntime", "openpyxl", "pandas", "scipy", "sklearn"),
    "train": (
        "torch",
        "torchvision",
        "lightning",
        "timm",
        "kornia",
        "segmentation_models_pytorch",
        "monai",
        "onnx",
        "skl2onnx",
        "joblib",
        "safetensors",
    ),
    "pdf": ("weasyprint",),
    "scale": ("fsspec", "psutil", "ray"),
    "serve": (
        "alembic",
        "fastapi",
        "httpx",
        "prometheus_client",
        "psutil",
        "psycopg",
        "python_multipart",
        "sqlalchemy",
        "uvicorn",
    ),
    "pacs": ("dicomweb_client", "pynetdicom", "requests"),
}
"""The modules that each extra in pyproject.toml installs, by the names they are imported by."""


class MissingExtraError(GroundglassError):
    """A part of Groundglass whose optional libraries are not installed."""

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(f"this needs {missing}, which is not installed: pip install 'groundglass[{extra}]'")


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error for a failed import; None if no extra has the module."""
    missing = (error.name or "").partition(".")[0]
    return next((MissingExtraError(extra, missing) for extra in EXTRAS if missing in EXTRAS[extra]), None)


def need_extra(extra: str) -> None:
    """Raise MissingExtraError if a module of an extra is missing; call this before a long computation."""
    for name in EXTRAS[extra]:
        if find_spec(name) is None:
            raise MissingExtraError(extra, name)
