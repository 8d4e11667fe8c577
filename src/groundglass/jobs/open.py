"""Opening the detector that a user names."""

from pathlib import Path

from groundglass.detect.bundle import FACTS, BundleError
from groundglass.detect.detector import Detector


def open_detector(name_or_path: str | Path | None) -> Detector:
    """The detector of a run's folder, a bundle's folder or zip, or a shipped bundle's name; by default the default.

    Raises
    ------
    BundleError
        If there is none, or the run has exported none yet.
    """
    if name_or_path is not None and (Path(name_or_path) / "run.json").is_file():
        folder = Path(name_or_path) / "bundle"
        if not (folder / FACTS).exists():
            raise BundleError(
                f"{name_or_path}: has no bundle yet; finish the run with --resume, or export it with  "
                f"groundglass bundle {name_or_path}"
            )
        return Detector.load(folder)
    return Detector.load(name_or_path)
