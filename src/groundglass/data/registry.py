"""The datasets that Groundglass knows, as one table of facts.

Unknown facts are not guessed: an unknown count or size is None, and a checksum is given only where the original
files were hashed.
"""

import difflib
from dataclasses import replace

from groundglass.data.dataset import Dataset, NumberedClass, Remote
from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE

_COVID_CT = Dataset(
    name="covid-ct",
    title="COVID-CT (UCSD)",
    description=(
        "Axial slices cut from papers on COVID-19, and slices without COVID-19 from LUNA, MedPix, Radiopaedia "
        "and papers. PNG and JPEG files of 61 to 1671 pixels; no Hounsfield units."
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
        "The classes can be distinguished without looking at the pictures: width, height, bytes per pixel and file "
        "extension alone reach an AUC of 0.96 on the official test set (every COVID-19 file is a PNG, half of "
        "the control files are JPEGs).",
        "174 COVID-19 files are RGBA; no other file is.",
        "A ring of border pixels that contains no lung still reaches an AUC of 0.74.",
        "Label conflict: kjr-21-e24-p5-29.png and -31.png (covid, test) are the same pictures as 71%0.jpg and "
        "71%1.jpg (not covid, train).",
        "Three papers appear in two parts of the official split: 2020.03.12.20034686, 2020.03.13.20035212, "
        "2020.03.22.20040782.",
        "Patients 154, 155, 158, 159 and 160 have the same pictures as patients 163, 162, 165, 164 and 167; some "
        "of these are in the validation and test sets.",
    ),
    folder="covid-ct",
    # Public download scripts use this address pattern for the two archives. It could not be tested;
    # the hashes catch a wrong file.
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

_SARSCOV2_PROBLEMS = (
    "There are no patient ids. A 1-nearest-neighbour classifier on 32 x 32 pixels is right for 93% of the slices "
    "under a random split, but for 61% under a split by contiguous blocks; the difference is leakage.",
    "Exact duplicates: Covid (128) and (129), Covid (134) and (135).",
    "Non-Covid (151) is missing: there are 1229 non-COVID files, but the paper counts 1230.",
)


def _sarscov2_classes(last_covid: int, last_control: int) -> tuple[NumberedClass, NumberedClass]:
    return (
        NumberedClass(label=POSITIVE, folder="COVID", stem="Covid ({})", last=last_covid),
        NumberedClass(
            label=NEGATIVE,
            folder="non-COVID",
            stem="Non-Covid ({})",
            last=last_control,
            absent=frozenset({151}),
        ),
    )


_SARSCOV2_CT = Dataset(
    name="sarscov2-ct",
    title="SARS-CoV-2 CT-scan (Sao Paulo)",
    description=(
        "Slices of patients with COVID-19 and of patients with other pulmonary diseases, from hospitals in "
        "Sao Paulo. The grey-level window is unknown."
    ),
    classes={POSITIVE: 1252, NEGATIVE: 1229},
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Soares E, Angelov P, Biaso S, Higa Froes M, Kanda Abe D. SARS-CoV-2 CT-scan dataset: a large dataset of "
        "real patients CT scans for SARS-CoV-2 identification. 2020. doi 10.1101/2020.04.24.20078584"
    ),
    address="https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset",
    steps=(
        "Log in to Kaggle and download https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset",
        "Or use Kaggle's command-line tool with your API key:  kaggle datasets download -d "
        "plameneduardo/sarscov2-ctscan-dataset --unzip -p {folder}",
        "The folders COVID and non-COVID must then be in {folder}",
    ),
    layout="numbered",
    needs=("COVID", "non-COVID"),
    verification="names and counts (the archive's checksum is not known)",
    groups="numbered",
    patients="no ids were published; neighbouring numbers mostly show one patient, so blocks are a guess",
    default_split="blocks",
    known_problems=(
        *_SARSCOV2_PROBLEMS,
        "One scan is included twice: Covid (1164) to (1201) repeat Covid (1126) to (1163).",
        "Grey levels alone, regardless of position, reach an AUC of 0.97 under a split by blocks; the border "
        "without the lungs reaches 0.86.",
    ),
    folder="sarscov2-ct",
    numbered=_sarscov2_classes(1252, 1230),
)

_SARSCOV2_CT_1010 = replace(
    _SARSCOV2_CT,
    name="sarscov2-ct-1010",
    title="SARS-CoV-2 CT-scan, 1010 + 1010",
    description=(
        "A subset of sarscov2-ct with 1010 slices per class. Results of a small CNN and of VGG16 were published "
        "on such a subset, with 1600 slices for training and 420 for validation. Which files it contained is "
        "not known; this subset takes the 1010 lowest numbers of each class."
    ),
    classes={POSITIVE: 1010, NEGATIVE: 1010},
    fractions=(800 / 1010, 210 / 1010, 0.0),
    known_problems=(
        "The published figures come from a random split, which leaks; --split random makes such a split. The "
        "default, blocks, has the same sizes (800 and 210 slices per class) and does not mix neighbours.",
        "There is no test set: the validation set both chose the model and gave the published figures.",
        *_SARSCOV2_PROBLEMS,
    ),
    numbered=_sarscov2_classes(1010, 1011),
)

_COVID19_CT_SEG = Dataset(
    name="covid19-ct-seg",
    title="COVID-19 CT lung and infection segmentation",
    description=(
        "Slices with a lung mask and an infection mask, from the dataset's 20 volumes: every second slice of a "
        "2-D rendering, 256 x 256 pixels, grey, with enhanced contrast (CLAHE). All patients have COVID-19. The "
        "dataset was published as NIfTI volumes, which are not converted to slices."
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
        "Get the 2-D rendering of this dataset: slices.csv and the folders ct, lungs and covid. The archives at "
        "https://zenodo.org/records/3757476 contain NIfTI volumes, which cannot take its place.",
        "Put slices.csv, ct, lungs and covid into {folder}",
    ),
    layout="masked-slices",
    needs=("slices.csv", "ct", "lungs", "covid"),
    masks={"lungs": "lungs", "lesions": "covid"},
    verification="names and counts (807 slices of 18 cases, two masks each)",
    groups="patients",
    patients="18 cases, whose boundaries were found from jumps between frames",
    default_split="grouped",
    known_problems=(
        "Hounsfield units were lost, and the contrast was enhanced.",
        "The Radiopaedia volumes are upside down.",
        "Slices without infection were left out, so the dataset has one class and measures sensitivity only.",
    ),
    folder="covid19-ct-seg",
)

_MEDSEG = Dataset(
    name="medseg",
    title="MedSeg, 100 axial slices",
    description=(
        "Axial slices of more than 40 patients with COVID-19, from the Italian Society of Medical and "
        "Interventional Radiology (SIRM), cropped to the lungs, on which radiologists marked ground-glass opacity "
        "and consolidation. 98 of the 100 slices, with the training and test halves of Inf-Net. 8-bit grey; no "
        "masks of the lungs."
    ),
    classes={POSITIVE: 98},
    licence="research use (pictures of the SIRM)",
    citation=(
        "MedSeg. COVID-19 CT segmentation dataset. 2020. https://medicalsegmentation.com/covid19; split: Fan D-P, "
        "Zhou T, Ji G-P, et al. Inf-Net: automatic COVID-19 lung infection segmentation from CT images. IEEE TMI "
        "2020. arXiv 2004.14133"
    ),
    address="https://medicalsegmentation.com/covid19/",
    steps=(
        "Open https://github.com/DengPingFan/Inf-Net and download MultiClassInfection-Train and "
        "MultiClassInfection-Test (section Training set and Testing set).",
        "Unpack both into one folder, and run  groundglass data convert medseg FOLDER , which writes {folder}",
    ),
    layout="masked-slices",
    needs=("slices.csv", "ct", "lesions"),
    masks={"lesion_types": "lesions"},
    verification="names and counts (98 slices, a mask each)",
    groups="unknown",
    patients=(
        "more than 40, whose ids are not known; some slices are near copies (010 and 043), so a patient may be in "
        "both halves of the official split"
    ),
    default_split="official",
    known_problems=(
        "Every slice shows COVID-19: use the masks, never the label, or a model learns the source.",
        "The slices are cropped to the lungs, so their margins and sizes differ from those of other datasets.",
        "Slices of one patient may be on both sides of the official split.",
    ),
    folder="medseg",
)

_RADIOPAEDIA_VOLUMES = Dataset(
    name="radiopaedia-volumes",
    title="MedSeg, nine Radiopaedia volumes",
    description=(
        "Nine volumes of seven patients with COVID-19, slice by slice and with the slices that show no lesion. "
        "Each slice has a mask of the lungs and one of the lesions; the contrast is not enhanced."
    ),
    classes={POSITIVE: None},
    licence="research use (pictures of Radiopaedia)",
    citation=(
        "MedSeg. COVID-19 CT segmentation dataset, segmentation of nine volumes from Radiopaedia. 2020. "
        "https://medicalsegmentation.com/covid19"
    ),
    address="https://medicalsegmentation.com/covid19/",
    steps=(
        "Download rp_im.zip, rp_lung_msk.zip and rp_msk.zip from https://medicalsegmentation.com/covid19/",
        "Unpack them into one folder, and run  groundglass data convert radiopaedia-volumes FOLDER , which writes "
        "{folder}",
    ),
    layout="masked-slices",
    needs=("slices.csv", "ct", "lungs", "lesions"),
    masks={"lungs": "lungs", "lesions": "lesions"},
    verification="names (each slice of slices.csv has two masks)",
    groups="patients",
    patients="seven, found by comparing the volumes with those of covid19-ct-seg (correlation 0.88 to 0.98)",
    patient_of={
        "1": "radiopaedia_7",
        "2": "radiopaedia_10",
        "3": "radiopaedia_10",
        "4": "radiopaedia_4",
        "5": "radiopaedia_27",
        "6": "radiopaedia_29",
        "7": "radiopaedia_29",
        "8": "radiopaedia_36",
        "9": "radiopaedia_40",
    },
    patients_from="covid19-ct-seg",
    default_split="grouped",
    known_problems=(
        "The patients are those of covid19-ct-seg's Radiopaedia cases, under the same ids; a recipe that uses both "
        "datasets keeps a patient in one part.",
        "Every patient has COVID-19, even if a slice shows no lesion: use the masks, never the label.",
        "Grey levels come from pictures, so Hounsfield units are approximate.",
    ),
    folder="radiopaedia-volumes",
)

_IQ_OTHNCCD = Dataset(
    name="iq-othnccd",
    title="IQ-OTH/NCCD lung cancer dataset",
    description=(
        "Slices of normal lungs and of lungs with benign and malignant tumours, from two hospitals in Baghdad in "
        "2019, before COVID-19."
    ),
    classes={"normal": 416, "benign": 120, "malignant": 561},
    licence="CC BY 4.0",
    citation=(
        "Alyasriy H, Al-Huseiny M. The IQ-OTH/NCCD lung cancer dataset. Mendeley Data 2020. "
        "doi 10.17632/bhmdr45bh2"
    ),
    address="https://data.mendeley.com/datasets/bhmdr45bh2",
    steps=(
        "Download and unpack the archive from https://data.mendeley.com/datasets/bhmdr45bh2",
        "Run  groundglass data convert iq-othnccd FOLDER  on the folder that holds Normal cases, Bengin cases and "
        "Malignant cases; it writes {folder}",
    ),
    layout="numbered",
    needs=("normal", "benign", "malignant"),
    verification="names and counts",
    lesion_free=("normal",),
    groups="numbered",
    patients="110, whose ids were not published; neighbours often show one patient, so blocks are a guess",
    default_split="blocks",
    known_problems=(
        "No slice shows COVID-19: together with a dataset of COVID-19 alone, a model learns the source, not the "
        "disease.",
        "841 of the 1054 different files have a near twin, mostly a neighbouring number.",
        "59 malignant files have an aspect ratio that no other file has.",
        "Tumours can cause pneumonia beyond them, so only the normal slices count as free of lesions.",
    ),
    folder="iq-othnccd",
    numbered=(
        NumberedClass(label="normal", folder="normal", stem="Normal case ({})", last=416),
        NumberedClass(label="benign", folder="benign", stem="Bengin case ({})", last=120),
        NumberedClass(label="malignant", folder="malignant", stem="Malignant case ({})", last=561),
    ),
)

_EMPHYSEMA_CLASSES = {"normal": 329, "panlobular": 262, "paraseptal": 259, "centriacinar": 258}

_EMPHYSEMA_SLICES = Dataset(
    name="emphysema-slices",
    title="Emphysema slices",
    description=(
        "Slices of healthy lungs and of three types of emphysema, from several scanners, with and without contrast "
        "medium; no COVID-19."
    ),
    classes=_EMPHYSEMA_CLASSES,
    licence="research use; no licence is stated",
    citation="Talo M. Emphysema. https://github.com/muhammedtalo/Emphysema, commit 2f153b1",
    address="https://github.com/muhammedtalo/Emphysema",
    steps=(
        "Open https://github.com/muhammedtalo/Emphysema and download the repository (Code, Download ZIP).",
        "Unpack it, and run  groundglass data convert emphysema-slices FOLDER  on its folder Dataset; it writes "
        "{folder}",
    ),
    layout="class-folders",
    needs=tuple(_EMPHYSEMA_CLASSES),
    verification="counts of each class",
    lesion_free=tuple(_EMPHYSEMA_CLASSES),
    groups="unknown",
    patients="unknown; probably one slice of each patient, since there are few near copies",
    default_split="grouped",
    known_problems=(
        "No slice shows COVID-19: together with a dataset of COVID-19 alone, a model learns the source, not the "
        "disease.",
        "The same file number in two classes refers to different pictures.",
        "Nobody marked these slices: the absence of ground glass and consolidation follows from their class.",
    ),
    folder="emphysema-slices",
)

_CCAP = Dataset(
    name="ccap",
    title="CCAP (IEEE DataPort)",
    description=(
        "Chest CT of COVID-19, of pneumonia with other causes (viral, bacterial, mycoplasma) and of normal "
        "lungs, according to projects that used it. The files are behind a login and were not examined, so "
        "the class names and counts are uncertain."
    ),
    classes={
        POSITIVE: None,
        "normal": None,
        "viral pneumonia": None,
        "bacterial pneumonia": None,
        "mycoplasma pneumonia": None,
    },
    licence="unknown: see the web page",
    citation="CCAP. IEEE DataPort, 2020. https://ieee-dataport.org/documents/ccap",
    address="https://ieee-dataport.org/documents/ccap",
    steps=(
        "Log in to IEEE DataPort and download https://ieee-dataport.org/documents/ccap",
        "Put one subfolder per class into {folder}; or leave the files where they are and run  groundglass data "
        "import FOLDER --source ccap  instead",
    ),
    layout="class-folders",
    needs=(),
    verification="none: file names and counts are unknown",
    groups="unknown",
    patients="unknown",
    default_split="grouped",
    folder="ccap",
)

DATASETS: dict[str, Dataset] = {
    row.name: row
    for row in (
        _COVID_CT,
        _SARSCOV2_CT,
        _SARSCOV2_CT_1010,
        _COVID19_CT_SEG,
        _MEDSEG,
        _RADIOPAEDIA_VOLUMES,
        _IQ_OTHNCCD,
        _EMPHYSEMA_SLICES,
        _CCAP,
    )
}

SHARING = {name for row in DATASETS.values() if row.patients_from for name in (row.name, row.patients_from)}
"""Datasets that show patients of another one under the same ids."""


def find(name: str) -> Dataset:
    """Return the facts of a dataset.

    Raises
    ------
    GroundglassError
        If there is no dataset of this name; the message suggests the nearest name and lists all of them.
    """
    if name in DATASETS:
        return DATASETS[name]
    raise unknown(name)


def unknown(name: str) -> GroundglassError:
    """The error for an unknown name, which suggests the nearest dataset and lists all of them."""
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return GroundglassError(
        f"{name}: no dataset has this name{hint}, nor a file or folder; known datasets: {', '.join(DATASETS)}"
    )
