"""Where the files of datasets are on this machine."""

import os
from pathlib import Path

from platformdirs import user_data_path

from groundglass.data.dataset import Dataset
from groundglass.data.registry import find
from groundglass.errors import GroundglassError

DATA_VARIABLE = "GROUNDGLASS_DATA"
MIRROR_VARIABLE = "GROUNDGLASS_MIRROR"


def data_folder() -> Path:
    """The folder of downloads and manifests: GROUNDGLASS_DATA, or a folder in the user's data folder."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser().absolute() if named else user_data_path("groundglass") / "datasets"


def mirror_folder() -> Path | None:
    """The folder that GROUNDGLASS_MIRROR names, whose datasets are used in place; nothing is written there.

    Raises
    ------
    GroundglassError
        If the folder does not exist.
    """
    named = os.environ.get(MIRROR_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise GroundglassError(
            f"{MIRROR_VARIABLE} names {folder}, which is not a folder; correct or unset it"
        )
    return folder


def locate(name: str) -> Path | None:
    """Return the folder of a dataset's files, in the mirror or downloaded; None if there is none.

    Raises
    ------
    GroundglassError
        If there is no dataset of this name, or GROUNDGLASS_MIRROR names no folder.
    """
    dataset = find(name)
    for base in (mirror_folder(), data_folder()):
        if base and _holds(base / dataset.folder, dataset):
            return base / dataset.folder
    return None


def _holds(folder: Path, dataset: Dataset) -> bool:
    if dataset.needs:
        return all((folder / need).exists() for need in dataset.needs)
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())


def steps_by_hand(dataset: Dataset) -> list[str]:
    """Numbered instructions for a dataset that cannot be downloaded."""
    folder = data_folder() / dataset.folder
    last = f"Run  groundglass data get {dataset.name}  again: it checks the files and writes the manifest."
    steps = [*(step.format(folder=folder) for step in dataset.steps), last]
    return [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
