"""The facts of a dataset, and how it can be split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Scheme = Literal["official", "grouped", "blocks", "random"]
Fractions = tuple[float, float, float]

DEFAULT_FRACTIONS: Fractions = (0.7, 0.15, 0.15)
"""Shares of training, validation and test for datasets that define no shares of their own."""
BLOCK = 21
"""Slices in an assumed patient block of sarscov2-ct, which has 2481 slices of about 120 patients."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file to download: its path below the dataset's address, and whether it is a zip archive to unpack.

    An archive becomes a folder of the same name without ``.zip``.
    """

    path: str
    unpack: bool = False

    @property
    def result(self) -> str:
        """Path of the file, or of the unpacked archive, within the dataset's folder."""
        return self.path.removesuffix(".zip") if self.unpack else self.path


@dataclass(frozen=True, kw_only=True)
class NumberedClass:
    """A class whose slices are numbered but have no patient ids: ``folder/stem.extension``, 1 to ``last``."""

    label: str
    folder: str
    stem: str
    last: int
    absent: frozenset[int] = frozenset()

    def stems(self) -> list[str]:
        """File names without their extension, in numerical order."""
        return [self.stem.format(number) for number in range(1, self.last + 1) if number not in self.absent]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The facts of one dataset.

    Attributes
    ----------
    classes
        Number of slices of each label; None if unknown.
    address
        The dataset's web page.
    steps
        What to do by hand if the dataset cannot be downloaded; ``{folder}`` is replaced by the dataset's
        folder.
    layout
        Which function of ``groundglass.data.layouts`` turns the folder into manifest rows.
    needs
        Files and folders that must exist for the dataset to count as present.
    verification
        How the files are checked.
    hashes
        Name of the list of SHA-256 hashes in the folder ``hashes``, if there is one.
    masks
        The mask columns of the manifest that the dataset fills, each with the folder of the masks.
    lesion_free
        Labels whose slices show neither ground glass nor consolidation, according to the dataset's authors.
    groups
        ``patients``: patient ids were published. ``numbered``: there are no ids; slices with neighbouring numbers
        are assumed to show one patient. ``unknown``: nothing is known.
    patient_of
        The patient of each volume, if the dataset's own table does not give it.
    patients_from
        The dataset with the same patients under the same ids; "" if there is none. A recipe keeps both copies
        of a patient in the same part.
    folder
        The folder's name; two datasets may share one.
    """

    name: str
    title: str
    description: str
    classes: Mapping[str, int | None]
    licence: str
    citation: str
    address: str
    steps: tuple[str, ...]
    layout: str
    needs: tuple[str, ...]
    verification: str
    hashes: str = ""
    masks: Mapping[str, str] = field(default_factory=dict)
    lesion_free: tuple[str, ...] = ()
    groups: Literal["patients", "numbered", "unknown"]
    patients: str
    patient_of: Mapping[str, str] = field(default_factory=dict)
    patients_from: str = ""
    default_split: Scheme
    fractions: Fractions = DEFAULT_FRACTIONS
    size_bytes: int | None = None
    known_problems: tuple[str, ...] = ()
    folder: str
    download_from: str = ""
    remote: tuple[Remote, ...] = ()
    numbered: tuple[NumberedClass, ...] = ()

    @property
    def commercial_use(self) -> str:
        """Whether its licence allows commercial use, in words; research use counts as no."""
        if "-NC" in self.licence or self.licence.startswith("research use"):
            return "no"
        return "yes, with attribution" if self.licence.startswith("CC BY") else "not known"
