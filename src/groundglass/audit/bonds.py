"""Why slices belong together: one patient, group, paper or series by name, the same picture, or a guess."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.hidden_groups import origins
from groundglass.audit.material import Material
from groundglass.audit.measures import CONFIDENCE, RESAMPLES
from groundglass.audit.near_duplicates import clusters
from groundglass.data.manifest import PARTS
from groundglass.data.splits import named_groups
from groundglass.evaluate.bootstrap import Floats, ratio
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import estimate, resample
from groundglass.evaluate.predictions import unit_codes

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


SHOWN = 12
"""How many names are shown with pictures."""
PICTURES = 2
"""Pictures of a name that are shown of each part."""


@dataclass(frozen=True)
class Torn:
    """Names that lie in more than one part.

    Attributes
    ----------
    names
        Those names, the one with most slices first.
    places
        The slices of each of them that have a part, shape (its slices,).
    held_out
        The part that scores are given on: ``test``, or the last part where there is none.
    others
        The other parts, as ``train or val``.
    share
        The share of the held-out slices whose name is in another part too, with its interval by a bootstrap of
        whole names.
    """

    names: tuple[str, ...]
    places: tuple[NDArray[np.intp], ...]
    held_out: str
    others: str
    share: Estimate

    @property
    def slices(self) -> NDArray[np.intp]:
        """Places of all slices of these names, shape (slices,)."""
        return np.concatenate([np.empty(0, dtype=np.intp), *self.places])

    def counts(self, parts: NDArray[np.str_]) -> tuple[tuple[str, ...], ...]:
        """A row for each name: the name, and its slices in training, validation and test."""
        return tuple(
            (name, *(str(int((parts[places] == part).sum())) for part in PARTS))
            for name, places in zip(self.names, self.places, strict=True)
        )

    def pictures(self, paths: NDArray[np.object_], parts: NDArray[np.str_]) -> tuple[tuple[str, ...], ...]:
        """Files of the first names, a few of each part."""
        return tuple(tuple(_some(places, paths, parts)) for places in self.places[:SHOWN])


def torn(names: "pd.Series[str]", sources: "pd.Series[str]", parts: NDArray[np.str_]) -> Torn:
    """Find names that lie in more than one part of a split.

    Parameters
    ----------
    names
        Of each slice, blank where it has none; the same name in two sources is two names.
    sources
        Of each slice.
    parts
        ``train``, ``val``, ``test`` or blank of each slice, shape (slices,); two parts at least.
    """
    places = pd.Series(np.arange(len(parts)))[(names.to_numpy(dtype=str) != "") & (parts != "")]
    by_name = places.groupby([sources.to_numpy()[places], names.to_numpy()[places]])
    found = [
        (str(name), at.to_numpy(dtype=np.intp)) for (_, name), at in by_name if len(np.unique(parts[at])) > 1
    ]
    found.sort(key=lambda one: -len(one[1]))
    present = [part for part in PARTS if (parts == part).any()]
    of_torn = np.zeros(len(parts), dtype=bool)
    of_torn[[place for _, at in found for place in at]] = True
    held = parts == present[-1]
    units = unit_codes(names.where(names == "", sources + "\n" + names).to_numpy()[held])
    return Torn(
        tuple(name for name, _ in found),
        tuple(at for _, at in found),
        present[-1],
        " or ".join(present[:-1]),
        share_of(of_torn[held], units),
    )


def share_of(of: NDArray[np.bool_], units: NDArray[np.intp], seed: int = 0) -> Estimate:
    """The share of slices that something is true of, with its interval by a bootstrap of whole units.

    Parameters
    ----------
    of
        bool, or float in [0, 1], shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,).
    seed
        Of the bootstrap.
    """

    def share(weights: Floats) -> dict[str, Floats]:
        return {"share": ratio(weights @ of.astype(float), weights.sum(axis=1))}

    return estimate(float(of.mean()), resample(share, units, RESAMPLES, seed)["share"], CONFIDENCE)


def _some(places: NDArray[np.intp], paths: NDArray[np.object_], parts: NDArray[np.str_]) -> Iterator[str]:
    for part in PARTS:
        yield from paths[places[parts[places] == part][:PICTURES]]
