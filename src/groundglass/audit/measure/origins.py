"""The paper or series that a file's name tells of."""

import re
from pathlib import Path

import pandas as pd

MOST = 0.2
"""An origin that covers more than this share of a class is a habit of naming and no paper or series."""
UNMISTAKABLE = 6
"""Digits from which on an origin means the same wherever it stands; shorter ones, as ``patient12``, may be numbered
anew in each class."""
WORDS = 3
"""Words that make a title even without a digit; fewer, as in ``covid-p12-3.png``, may be a class and a patient."""
_PAGE = re.compile(r"^(.+?)[-_ ]p\d+(?=[-_ %(]|$)", re.IGNORECASE)
_CROP = re.compile(r"%\d+$")
_PICTURE = re.compile(
    r"[-_ (]+(?:slice|sl|image|img|im|figure|fig|frame|picture|pic|z|no)?[-_ ]?\d+\)?$", re.IGNORECASE
)


def origin_of(path: Path | str) -> str:
    """The paper or series that a file's name tells of; "" where it tells none.

    It is what stands before a page mark, as in ``2020.03.12.20034686-p17-91-1.png``; else what stands before the
    number of a part of a figure, as in ``71%0.jpg``, and before the number of a picture, as in
    ``phantom-0003_012.png`` or ``patient12_slice5.png``. A word without a number, as in ``Covid (12).png``, is
    none.
    """
    stem = Path(path).stem
    if (page := _PAGE.match(stem)) and (_numbered(page[1]) or len(re.findall("[A-Za-z]+", page[1])) >= WORDS):
        return page[1]
    figure = _CROP.sub("", stem)
    before = _PICTURE.sub("", figure)
    if _numbered(before) and before != stem:
        return before
    return figure if figure != stem else ""


def _numbered(text: str) -> bool:
    return any(character.isdigit() for character in text)


def origins(manifest: pd.DataFrame) -> "pd.Series[str]":
    """The origin of each scan, as far as the names of all scans tell origins apart.

    Returns
    -------
    Text, index as given. Blank where :func:`origin_of` is, and where an origin has one file only or covers more
    than a fifth of a class of its source. An origin of few digits is followed by the label in brackets: the same
    short number in two classes is not taken for one origin.
    """
    labels = manifest["label"]
    told = pd.Series([origin_of(path) for path in manifest["path"]], index=manifest.index, dtype=object)
    short = told.str.count(r"\d") < UNMISTAKABLE
    told = told.where(~short | (told == ""), told + " (" + labels + ")")
    files = told.groupby([manifest["source"], told]).transform("size")
    share = told.groupby([manifest["source"], labels, told]).transform("size") / told.groupby(
        [manifest["source"], labels]
    ).transform("size")
    widest = share.groupby([manifest["source"], told]).transform("max")
    return told.where((files > 1) & (widest <= MOST), "")
