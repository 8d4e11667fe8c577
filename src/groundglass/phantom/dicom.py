"""Writing a phantom as DICOM: a valid CT series of a patient who does not exist.

This module loads pydicom and imagecodecs, so the package does not import it.
"""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydicom.dataset import Dataset

from groundglass.errors import GroundglassError
from groundglass.files import write_bytes
from groundglass.phantom.dicom_headers import (
    STORAGES,
    Person,
    PhantomHeader,
    classic_images,
    enhanced_image,
    legacy_enhanced_image,
)
from groundglass.phantom.dicom_syntax import encode
from groundglass.phantom.phantom import Phantom, PhantomStack, phantom_stack

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
) -> list[Path]:
    """Write a phantom as a CT series; the same arguments give the same bytes.

    The volume's middle lies at :data:`groundglass.phantom.phantom.MIDDLE`. A study holds the series of one
    phantom and one ``seed``; they share their frame of reference.

    Parameters
    ----------
    phantom
        What to write.
    folder
        Output folder, created if needed. Files of the same series number are replaced.
    syntax
        The transfer syntax, one of :data:`groundglass.phantom.dicom_syntax.SYNTAXES`.
    form
        ``classic`` is CT Image Storage, a file for each slice; ``enhanced`` one file of Enhanced CT Image
        Storage; ``legacy-enhanced`` one of Legacy Converted Enhanced CT Image Storage.
    names
        Whether the file names follow InstanceNumber (which runs from head to feet), reverse it or are shuffled.
    person
        The patient; None for a name and an id made from the phantom's seed.
    series
        SeriesNumber.
    storage
        How HU are stored, one of :data:`groundglass.phantom.dicom_headers.STORAGES`.
    padding
        PixelPaddingValue, as a stored value, which fills the image outside a round field of view.
    body_part, kernel
        BodyPartExamined and ConvolutionKernel.
    seed
        Changes all UIDs and the order of shuffled names.

    Returns
    -------
    The files, from the feet to the head.

    Raises
    ------
    GroundglassError
        If an argument is not one of the choices, or a file cannot be written.
    """
    header = series_header(
        phantom,
        person=person,
        series=series,
        storage=storage,
        padding=padding,
        body_part=body_part,
        kernel=kernel,
        seed=seed,
    )
    images = _images(phantom_stack(phantom), header, form)
    files = encoded_files(images, syntax, names=names, series=series, seed=seed)
    for name, content in files.items():
        write_bytes(folder / name, content)
    return [folder / name for name in files]


def series_header(
    phantom: Phantom,
    *,
    person: Person | None = None,
    series: int = 1,
    storage: str = "unsigned",
    padding: int | None = None,
    body_part: str = "CHEST",
    kernel: str = "B60f",
    seed: int = 0,
) -> PhantomHeader:
    """What all images of a phantom's series have in common; arguments as :func:`write_phantom_dicom`.

    Raises
    ------
    GroundglassError
        If there is no such storage.
    """
    if storage not in STORAGES:
        raise GroundglassError(f"no storage is called {storage}: there are {', '.join(STORAGES)}")
    person = person or Person(f"Phantom^{phantom.seed:04d}", f"PHANTOM-{phantom.seed:04d}")
    key = f"phantom {phantom.seed} {phantom.lungs.shape} {seed}"
    return PhantomHeader(person, series, STORAGES[storage], padding, key, body_part, kernel)


def encoded_files(
    images: list[Dataset], syntax: str, *, names: Names = "ordered", series: int = 1, seed: int = 0
) -> dict[str, bytes]:
    """The DICOM files of images by file name, in the images' order; arguments as :func:`write_phantom_dicom`."""
    stems = _names(len(images), names, seed)
    return {
        f"{series:03d}-{stem}.dcm": encode(image, syntax) for stem, image in zip(stems, images, strict=True)
    }


def _images(stack: PhantomStack, header: PhantomHeader, form: Form) -> list[Dataset]:
    if form == "classic":
        return classic_images(stack, header)
    if form not in get_args(Form):
        raise GroundglassError(f"no form is called {form}: there are {', '.join(get_args(Form))}")
    return [(enhanced_image if form == "enhanced" else legacy_enhanced_image)(stack, header)]


def _names(count: int, names: Names, seed: int) -> list[str]:
    """File names for images from the feet to the head, whose InstanceNumber runs from the head."""
    if names == "shuffled":
        order = np.random.default_rng(seed).permutation(count)
    elif names in ("ordered", "reversed"):
        order = np.arange(count) if names == "reversed" else np.arange(count)[::-1]
    else:
        raise GroundglassError(f"no order of names is called {names}: there are ordered, reversed, shuffled")
    return [f"{number + 1:04d}" for number in order]
