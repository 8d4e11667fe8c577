"""The datasets that Groundglass knows, as one table of facts.

Nothing here was measured by a model, and nothing that could not be known is filled in: a count or a size that
is not known is None, and a checksum is given only where the original files were hashed.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE

Scheme = Literal["official", "grouped", "blocks", "random"]
Fractions = tuple[float, float, float]

DEFAULT_FRACTIONS: Fractions = (0.7, 0.15, 0.15)
"""Shares of training, validation and test where a dataset has none of its own."""
BLOCK = 21
"""Slices in a guessed block of sarscov2-ct: about 120 patients gave 2481 slices."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file to download: its address below the dataset's, and whether it is a zip archive to unpack.

    An archive becomes the folder of the same name without ``.zip``.
    """

    path: str
    unpack: bool = False

    @property
    def result(self) -> str:
        """Where the file, or what was in the archive, lies in the dataset's folder."""
        return self.path.removesuffix(".zip") if self.unpack else self.path


@dataclass(frozen=True, kw_only=True)
class NumberedClass:
    """A class whose slices are numbered without patient ids: ``folder/stem.ending`` for 1 to ``last``."""

    label: str
    folder: str
    stem: str
    last: int
    absent: frozenset[int] = frozenset()

    def stems(self) -> list[str]:
        """File names without their ending, in the order of their numbers."""
        return [self.stem.format(number) for number in range(1, self.last + 1) if number not in self.absent]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The facts of one dataset.

    Attributes
    ----------
    classes
        Slices of each label; None where the number is not known.
    address
        The page where people find it.
    steps
        What to do by hand where it cannot be downloaded; ``{folder}`` stands for the dataset's folder.
    layout
        Which function of ``groundglass.data.layouts`` turns the folder into manifest rows.
    needs
        What must lie in the folder for the dataset to count as being here.
    verification
        How its files are checked.
    hashes
        The list of SHA-256 hashes in the folder ``hashes``, where there is one.
    groups
        ``patients``: ids were published. ``numbered``: none were, neighbouring numbers are guessed to be one
        patient. ``unknown``: nothing is known.
    folder
        The folder's name, where another dataset's files are used.
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
    groups: Literal["patients", "numbered", "unknown"]
    patients: str
    default_split: Scheme
    fractions: Fractions = DEFAULT_FRACTIONS
    size_bytes: int | None = None
    known_problems: tuple[str, ...] = ()
    folder: str
    download_from: str = ""
    remote: tuple[Remote, ...] = ()
    numbered: tuple[NumberedClass, ...] = field(default=())


_COVID_CT = Dataset(
    name="covid-ct",
    title="COVID-CT (UCSD)",
    description=(
        "Axial slices cut from papers on COVID-19, and slices without it from LUNA, MedPix, Radiopaedia and "
        "papers. PNG and JPEG of 61 to 1671 pixels; no Hounsfield units."
    ),
    classes={POSITIVE: 349, NEGATIVE: 397},
    licence="research use; the papers keep their copyright",
    citation=(
        "Zhao J, Zhang Y, He X, Xie P. COVID-CT-Dataset: a CT scan dataset about COVID-19. 2020. "
        "arXiv 2003.13865"
    ),
    address="https://github.com/UCSD-AI4H/COVID-CT",
    steps=(
        "Open https://github.com/UCSD-AI4H/COVID-CT and download the repository (Code, Download ZIP).",
        "Put Images-processed, Data-split, COVID-CT-MetaInfo.xlsx and NonCOVID-CT-MetaInfo.csv into {folder}",
        "Unpack CT_COVID.zip and CT_NonCOVID.zip inside Images-processed.",
        "Run  groundglass data get covid-ct  again: it checks the files and writes the manifest.",
    ),
    layout="covid-ct",
    needs=(
        "Images-processed/CT_COVID",
        "Images-processed/CT_NonCOVID",
        "Data-split",
        "COVID-CT-MetaInfo.xlsx",
        "NonCOVID-CT-MetaInfo.csv",
    ),
    verification="SHA-256 of each of its 746 pictures",
    hashes="covid-ct.sha256",
    groups="patients",
    patients="published: 213 with COVID-19 and 171 without, none in two parts of the official split",
    default_split="official",
    size_bytes=97_201_769,
    known_problems=(
        "It can be told apart without looking: width, height, bytes per pixel and file ending alone give "
        "AUC 0.96 on the official test part (every COVID file is PNG, half of the others are JPEG).",
        "174 COVID files are RGBA and no other file is.",
        "A ring of border pixels without the lungs still reaches AUC 0.74.",
        "kjr-21-e24-p5-29.png and -31.png (covid, test) are the same pictures as 71%0.jpg and 71%1.jpg "
        "(not covid, train): a label conflict.",
        "Three papers appear in two parts of the official split: 2020.03.12.20034686, 2020.03.13.20035212, "
        "2020.03.22.20040782.",
        "Patients 154, 155, 158, 159 and 160 show the pictures of 163, 162, 165, 164 and 167, some of them in "
        "validation and test.",
    ),
    folder="covid-ct",
    # This address pattern is the one that public download scripts use for the two archives; it could not be
    # tried where this table was written. The hashes catch a file that is not the one meant.
    download_from="https://github.com/UCSD-AI4H/COVID-CT/raw/master/",
    remote=(
        *(
            Remote(path=f"Data-split/{folder}/{part}CT_{folder}.txt")
            for folder in ("COVID", "NonCOVID")
            for part in ("train", "val", "test")
        ),
        Remote(path="COVID-CT-MetaInfo.xlsx"),
        Remote(path="NonCOVID-CT-MetaInfo.csv"),
        Remote(path="Images-processed/CT_COVID.zip", unpack=True),
        Remote(path="Images-processed/CT_NonCOVID.zip", unpack=True),
    ),
)

_SARSCOV2_LICENCE = "CC BY-NC-SA 4.0"
_SARSCOV2_CITATION = (
    "Soares E, Angelov P, Biaso S, Higa Froes M, Kanda Abe D. SARS-CoV-2 CT-scan dataset: a large dataset of "
    "real patients CT scans for SARS-CoV-2 identification. 2020. doi 10.1101/2020.04.24.20078584"
)
_SARSCOV2_ADDRESS = "https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset"
_SARSCOV2_PATIENTS = "no ids were published; neighbouring numbers are mostly one patient, blocks are a guess"
_SARSCOV2_PROBLEMS = (
    "No patient ids: at random, 1-nearest-neighbour on 32 x 32 pixels is right 93% of the time, on "
    "contiguous blocks 61%. The difference is leakage.",
    "Exact duplicates: Covid (128) and (129), Covid (134) and (135).",
    "Of the non-COVID slices number 151 is missing: 1229 files, where the paper counts 1230.",
)


def _sarscov2_steps(name: str) -> tuple[str, ...]:
    return (
        f"Log in to Kaggle and download {_SARSCOV2_ADDRESS}",
        "Or, with Kaggle's command and its key:  kaggle datasets download -d "
        "plameneduardo/sarscov2-ctscan-dataset --unzip -p {folder}",
        "The folders COVID and non-COVID must then lie in {folder}",
        f"Run  groundglass data get {name}  again: it checks the files and writes the manifest.",
    )


def _sarscov2_classes(last_covid: int, last_other: int) -> tuple[NumberedClass, NumberedClass]:
    return (
        NumberedClass(label=POSITIVE, folder="COVID", stem="Covid ({})", last=last_covid),
        NumberedClass(
            label=NEGATIVE,
            folder="non-COVID",
            stem="Non-Covid ({})",
            last=last_other,
            absent=frozenset({151}),
        ),
    )


_SARSCOV2_CT = Dataset(
    name="sarscov2-ct",
    title="SARS-CoV-2 CT-scan (Sao Paulo)",
    description=(
        "Slices of patients with COVID-19 and of patients with other pulmonary disease, from hospitals of "
        "Sao Paulo, in an unknown window."
    ),
    classes={POSITIVE: 1252, NEGATIVE: 1229},
    licence=_SARSCOV2_LICENCE,
    citation=_SARSCOV2_CITATION,
    address=_SARSCOV2_ADDRESS,
    steps=_sarscov2_steps("sarscov2-ct"),
    layout="numbered",
    needs=("COVID", "non-COVID"),
    verification="names and counts (the archive's checksum is not known)",
    groups="numbered",
    patients=_SARSCOV2_PATIENTS,
    default_split="blocks",
    known_problems=(
        *_SARSCOV2_PROBLEMS,
        "A scan is there twice: Covid (1126) to (1163) come again as Covid (1164) to (1201).",
        "Grey levels alone, wherever they lie, give AUC 0.97 by blocks; the border without lungs 0.86.",
    ),
    folder="sarscov2-ct",
    numbered=_sarscov2_classes(1252, 1230),
)

_SARSCOV2_CT_1010 = Dataset(
    name="sarscov2-ct-1010",
    title="SARS-CoV-2 CT-scan, 1010 + 1010",
    description=(
        "The subset of sarscov2-ct with 1010 slices a class on which a small CNN and VGG16 were published, "
        "1600 slices to train and 420 to validate. Which files these were is not known: here they are the "
        "1010 with the lowest numbers of each class."
    ),
    classes={POSITIVE: 1010, NEGATIVE: 1010},
    licence=_SARSCOV2_LICENCE,
    citation=_SARSCOV2_CITATION,
    address=_SARSCOV2_ADDRESS,
    steps=_sarscov2_steps("sarscov2-ct-1010"),
    layout="numbered",
    needs=("COVID", "non-COVID"),
    verification="names and counts (the archive's checksum is not known)",
    groups="numbered",
    patients=_SARSCOV2_PATIENTS,
    default_split="blocks",
    fractions=(800 / 1010, 210 / 1010, 0.0),
    known_problems=(
        "The figures published on it are of a random split, which leaks; that split is --scheme random. The "
        "default, blocks, has the same sizes (800 and 210 a class) without mixing neighbours.",
        "There is no test part: validation chose the model and gave the figures.",
        *_SARSCOV2_PROBLEMS,
    ),
    folder="sarscov2-ct",
    numbered=_sarscov2_classes(1010, 1011),
)

_COVID19_CT_SEG = Dataset(
    name="covid19-ct-seg",
    title="COVID-19 CT lung and infection segmentation",
    description=(
        "Slices with a lung mask and an infection mask, of the set's 20 volumes: every second slice of a "
        "2-D rendering, 256 x 256 grey, contrast enhanced (CLAHE). All are of patients with COVID-19. The "
        "published set is NIfTI volumes, which a later version will read."
    ),
    classes={POSITIVE: 807},
    licence="CC BY 4.0",
    citation=(
        "Ma J, Wang Y, An X, et al. Towards data-efficient learning: a benchmark for COVID-19 CT lung and "
        "infection segmentation. Medical Physics 2021. doi 10.1002/mp.14676, arXiv 2004.12537; "
        "data: doi 10.5281/zenodo.3757476"
    ),
    address="https://zenodo.org/records/3757476",
    steps=(
        "Download COVID-19-CT-Seg_20cases.zip, Lung_Mask.zip and Infection_Mask.zip from "
        "https://zenodo.org/records/3757476",
        "They hold NIfTI volumes, which this version does not read; a later one will.",
        "This version reads the 2-D rendering alone: put slices.csv and the folders ct, lungs and covid "
        "into {folder}",
        "Run  groundglass data get covid19-ct-seg  again: it checks the files and writes the manifest.",
    ),
    layout="covid19-ct-seg",
    needs=("slices.csv", "ct", "lungs", "covid"),
    verification="names and counts (807 slices of 18 cases, two masks each)",
    groups="patients",
    patients="18 cases, their borders found from jumps between frames",
    default_split="grouped",
    known_problems=(
        "No Hounsfield units are left, and the contrast was enhanced.",
        "The Radiopaedia volumes are upside down.",
        "Slices without infection were left out, so the set holds one class and measures sensitivity only.",
    ),
    folder="covid19-ct-seg",
)

_CCAP = Dataset(
    name="ccap",
    title="CCAP (IEEE DataPort)",
    description=(
        "Chest CT of COVID-19, of pneumonia with other causes (viral, bacterial, mycoplasma) and of normal "
        "lungs, as projects that used it describe it; the files stand behind a login and were not seen, so "
        "neither class names nor counts are certain."
    ),
    classes={
        POSITIVE: None,
        "normal": None,
        "viral pneumonia": None,
        "bacterial pneumonia": None,
        "mycoplasma pneumonia": None,
    },
    licence="not known here: see the page",
    citation="CCAP. IEEE DataPort, 2020. https://ieee-dataport.org/documents/ccap",
    address="https://ieee-dataport.org/documents/ccap",
    steps=(
        "Log in to IEEE DataPort and download https://ieee-dataport.org/documents/ccap",
        "Put one subfolder per class into {folder}",
        "Run  groundglass data get ccap  again; or leave the files where they are and run  groundglass data "
        "import FOLDER --source ccap",
    ),
    layout="class-folders",
    needs=(),
    verification="none: neither names nor counts are known",
    groups="unknown",
    patients="not known here",
    default_split="grouped",
    folder="ccap",
)

DATASETS: dict[str, Dataset] = {
    row.name: row for row in (_COVID_CT, _SARSCOV2_CT, _SARSCOV2_CT_1010, _COVID19_CT_SEG, _CCAP)
}


def find(name: str) -> Dataset:
    """Return the facts of a dataset.

    Raises
    ------
    GroundglassError
        If there is none of this name; the message gives the nearest and all others.
    """
    if name in DATASETS:
        return DATASETS[name]
    raise unknown(name)


def unknown(name: str) -> GroundglassError:
    """The error for a name that is no dataset's, with the nearest one and all others."""
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return GroundglassError(
        f"{name}: no dataset has this name{hint}, and no file or folder; there are {', '.join(DATASETS)}"
    )
