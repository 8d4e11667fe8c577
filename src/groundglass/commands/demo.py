"""``groundglass demo``: run the shipped detector, on real slices if they are available."""

from collections.abc import Callable
from pathlib import Path

from groundglass.commands.evaluate import choose_rows, evaluate_detector
from groundglass.commands.predict import predict
from groundglass.data.datasets import get
from groundglass.data.folders import locate
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.phantom import write_phantom_set

DATASET = "covid-ct"
PHANTOMS = 3
VOLUME = "volume"
"""Folder of the phantom volume and its results."""


def demo(folder: Path, tell: Callable[[str], None]) -> Path:
    """Run the default detector on covid-ct's test set, or on phantoms if covid-ct is not available.

    Parameters
    ----------
    folder
        Where to write.
    tell
        Receives a description of each step.

    Returns
    -------
    The report.
    """
    detector = Detector.load()
    if _have_real_slices(tell):
        labelled = choose_rows(detector.bundle, DATASET, "test")
        tell(f"Running on {len(labelled.rows)} real slices: the test set of {DATASET}.")
        evaluate_detector(detector, labelled, folder)
    else:
        tell(
            "Running on phantoms instead: synthetic slices that show how it works, not how well it performs."
        )
        slices = folder / "phantoms"
        rows = write_phantom_set(slices, count=PHANTOMS, disease="mixed", seed=0)
        title = "Phantoms: synthetic slices, which show nothing about the detector's performance"
        predict([Path(row["path"]) for row in rows], folder, detector=detector, title=title)
    tell(f"A synthetic volume, from DICOM to DICOM: {_volume(folder / VOLUME, detector)}")
    return folder / "report.html"


def _volume(folder: Path, detector: Detector) -> Path:
    """Run the detector on a phantom written as a DICOM series; returns the report."""
    from groundglass.commands.predict_volumes import predict_volumes
    from groundglass.phantom.volumes import write_phantom_volumes
    from groundglass.scan.find import find_series

    scans = write_phantom_volumes(folder, count=1, disease="covid", syntax="jpeg-lossless")
    answers = predict_volumes(find_series(scans), folder / "out", detector=detector)
    return next(iter(answers.folders.values())) / "report.html"


def _have_real_slices(tell: Callable[[str], None]) -> bool:
    if locate(DATASET) is None:
        tell(f"{DATASET} is not on this machine; trying to download it.")
    try:
        get(DATASET)
    except GroundglassError as error:
        tell(f"No real slices: {str(error).splitlines()[0]}")
        return False
    return True
