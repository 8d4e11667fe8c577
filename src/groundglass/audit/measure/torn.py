"""What lies in two parts of a split, such as a patient, and how much of the held-out part it touches."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.measure.auc import CONFIDENCE, RESAMPLES
from groundglass.data.manifest import PARTS
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import estimate, resample
from groundglass.evaluate.predictions import unit_codes
from groundglass.evaluate.weighted import Floats, ratio

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
