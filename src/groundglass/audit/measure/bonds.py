"""Why slices belong together: one patient, group, paper or series by name, the same picture, or a guess."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.material import Material
from groundglass.audit.measure.origins import origins
from groundglass.audit.measure.twins import clusters
from groundglass.data.splits import named_groups

COPY, ALIKE, PATIENT, ORIGIN, ACROSS, GUESS = "GG101", "GG102", "GG104", "GG105", "GG106", "GG107"
"""Codes of the checks that speak of the reasons."""


@dataclass(frozen=True, eq=False)
class Bond:
    """Slices that belong together for one reason.

    Attributes
    ----------
    code
        Of the check that speaks of the reason.
    words
        What stands between two of the slices in a sentence, such as ``shows the same picture as``.
    places
        Of the slices, rising, two at least.
    name
        Of the patient, group or origin; blank for pictures and guesses.
    """

    code: str
    words: str
    places: tuple[int, ...]
    name: str = ""

    def partner(self, codes: NDArray[np.intp], of: int) -> int | None:
        """The first of the slices that has another code than the slice ``of``, if any."""
        return next((place for place in self.places if codes[place] != codes[of]), None)


def find_bonds(material: Material, usable: Iterable[int], left: Iterable[int]) -> list[Bond]:
    """Find all reasons why slices belong together.

    Parameters
    ----------
    material
        All slices.
    usable
        Places of the slices that are looked at; the same name in two sources is two names.
    left
        Those of them that a later audit will see: names are common or rare among these as well.

    Returns
    -------
    The surest first: patients, groups that the manifest names, pictures, origins, and the guessed groups of slices
    that name no patient or group.
    """
    manifest = material.manifest.reset_index(drop=True)
    rows = manifest.loc[sorted(usable)]
    told = origins(manifest.loc[sorted(left)]).reindex(rows.index, fill_value="")
    told = told.where(told != "", origins(rows))
    sources = rows["source"]
    return [
        *_named(rows["patient"], sources, PATIENT, "is of the same patient, {}, as"),
        *(_named(rows["group"], sources, PATIENT, "is of the same group, {}, as") if "group" in rows else ()),
        *_pictures(material, set(rows.index)),
        *_named(told, sources, ORIGIN, "is by its name of the same paper or series, {}, as"),
        *_guessed(material, rows[named_groups(rows) == ""].index),
    ]


def joined(count: int, bonds: Iterable[Bond]) -> NDArray[np.intp]:
    """Number of the group that each of ``count`` slices belongs to, whatever is bound being in one; from 0 on."""
    return clusters(count, ((bond.places[0], place) for bond in bonds for place in bond.places[1:]))


def _named(names: "pd.Series[str]", sources: "pd.Series[str]", code: str, words: str) -> Iterator[Bond]:
    known = names[names != ""]
    for (_, name), slices in known.groupby([sources[known.index], known], sort=False):
        if len(slices) > 1:
            yield Bond(code, words.format(name), tuple(slices.index.tolist()), str(name))


def _pictures(material: Material, usable: Container[int]) -> Iterator[Bond]:
    for twin in material.twins:
        if twin.first in usable and twin.second in usable:
            same_file = twin.how == "same file"
            across = len(set(material.parts[[twin.first, twin.second]]) - {""}) == 2
            yield Bond(
                ACROSS if across else COPY if same_file else ALIKE,
                "is the same file as" if same_file else "shows the same picture as",
                (twin.first, twin.second),
            )


def _guessed(material: Material, unnamed: "pd.Index[int]") -> Iterator[Bond]:
    if len(unnamed):
        guess = pd.Series(material.hidden.groups).loc[unnamed]
        for _, slices in guess.groupby(guess):
            if len(slices) > 1:
                yield Bond(
                    GUESS, "seems, by a guess, to be of the same series as", tuple(slices.index.tolist())
                )
