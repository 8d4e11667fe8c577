"""Errors that a user can cause and mend; the command prints them as one line, without a traceback."""

from pathlib import Path


class GroundglassError(Exception):
    """Anything that the user can put right; the message says how."""


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


class MissingExtraError(GroundglassError):
    """A part of Groundglass whose optional libraries are not installed."""

    def __init__(self, extra: str, missing: str) -> None:
        super().__init__(f"this needs {missing}: install it with  pip install 'groundglass[{extra}]'")
