"""Writing a phantom as DICOM: a valid CT series of a person who does not exist, or one with a fault.

This module loads pydicom and imagecodecs, so the package does not load it by itself.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset

from groundglass.errors import GroundglassError
from groundglass.files import write_bytes
from groundglass.phantom.dicom_headers import (
    STORAGES,
    Header,
    Person,
    classic_images,
    enhanced_image,
    legacy_enhanced_image,
)
from groundglass.phantom.dicom_syntax import encode
from groundglass.phantom.faults import FAULTS, Fault
from groundglass.phantom.phantom import Phantom, Stack, phantom_stack

Form = Literal["classic", "enhanced", "legacy-enhanced"]
Names = Literal["ordered", "reversed", "shuffled"]


def write_phantom_dicom(
    phantom: Phantom,
    folder: Path,
    *,
    syntax: str = "explicit-little",
    form: Form = "classic",
    names: Names = "ordered",
    person: Person | None = None,
    series: int = 1,
    storage: str = "unsigned",
    padding: int | None = None,
    body_part: str = "CHEST",
    kernel: str = "B60f",
    seed: int = 0,
    fault: str | None = None,
) -> list[Path]:
    """Write a phantom as a CT series, the same bytes for the same arguments.

    The volume's middle lies at :data:`groundglass.phantom.phantom.MIDDLE`. A study holds the series of one
    phantom and one ``seed``; they share their frame of reference.

    Parameters
    ----------
    phantom
        What to write.
    folder
        Where to; made if it does not exist. Files of the same series number are replaced.
    syntax
        The transfer syntax, one of :data:`groundglass.phantom.dicom_syntax.SYNTAXES`.
    form
        ``classic`` is CT Image Storage, a file for each slice; ``enhanced`` one file of Enhanced CT Image
        Storage; ``legacy-enhanced`` one of Legacy Converted Enhanced CT Image Storage.
    names
        Whether the file names go with InstanceNumber, which runs from head to feet, against it or anyhow.
    person
        Who it is; None for a name and an id made of the phantom's seed.
    series
        SeriesNumber.
    storage
        How HU are stored, one of :data:`groundglass.phantom.dicom_headers.STORAGES`.
    padding
        PixelPaddingValue, as a stored value, which fills what lies outside a round field of view.
    body_part, kernel
        BodyPartExamined and ConvolutionKernel.
    seed
        Changes all UIDs and the order of shuffled names.
    fault
        What is wrong with it, one of :data:`groundglass.phantom.faults.FAULTS`; of the classic form only.

    Returns
    -------
    The files, from the feet to the head.

    Raises
    ------
    GroundglassError
        If an argument is none of those there are, or a file cannot be written.
    """
    chosen = _fault(fault, form)
    if storage not in STORAGES:
        raise GroundglassError(f"no storage is called {storage}: there are {', '.join(STORAGES)}")
    person = person or Person(f"Phantom^{phantom.seed:04d}", f"PHANTOM-{phantom.seed:04d}")
    key = f"phantom {phantom.seed} {phantom.lungs.shape} {seed}"
    header = Header(person, series, STORAGES[storage], padding, key, body_part, kernel)
    images = chosen.images(_images(chosen.stack(phantom_stack(phantom)), header, form))
    stems = _names(len(images), names, seed)
    files = {
        f"{series:03d}-{stem}.dcm": encode(image, chosen.syntax or syntax)
        for stem, image in zip(stems, images, strict=True)
    }
    paths = []
    for name, content in chosen.files(files).items():
        write_bytes(folder / name, content)
        paths.append(folder / name)
    return paths


def _fault(name: str | None, form: Form) -> Fault:
    if name is None:
        return Fault("no fault")
    if name not in FAULTS:
        raise GroundglassError(f"no fault is called {name}: there are {', '.join(FAULTS)}")
    if form != "classic":
        raise GroundglassError(f"a fault can be had in the classic form, not in the form {form}")
    return FAULTS[name]


def _images(stack: Stack, header: Header, form: Form) -> list[Dataset]:
    if form == "classic":
        return classic_images(stack, header)
    if form == "enhanced":
        return [enhanced_image(stack, header)]
    if form == "legacy-enhanced":
        return [legacy_enhanced_image(stack, header)]
    raise GroundglassError(f"no form is called {form}: there are classic, enhanced, legacy-enhanced")


def _names(count: int, names: Names, seed: int) -> list[str]:
    """File names for images from the feet to the head, whose InstanceNumber runs from the head."""
    if names == "shuffled":
        order = np.random.default_rng(seed).permutation(count)
    elif names in ("ordered", "reversed"):
        order = np.arange(count) if names == "reversed" else np.arange(count)[::-1]
    else:
        raise GroundglassError(f"no order of names is called {names}: there are ordered, reversed, shuffled")
    return [f"{number + 1:04d}" for number in order]
