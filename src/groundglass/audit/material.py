"""What the checks of data see: a manifest, its files' headers, and what their pictures look like."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.headers import read_headers
from groundglass.audit.hidden_groups import Hidden, hidden_groups
from groundglass.audit.looks import Looks
from groundglass.audit.near_duplicates import Twin, find_twins
from groundglass.data.splits import groups
from groundglass.errors import ScanError
from groundglass.evaluate.predictions import unit_codes
from groundglass.labels import POSITIVE


@dataclass
class Material:
    """Labelled scans, and what was seen of them; whatever takes long is looked up once.

    Attributes
    ----------
    name
        The dataset's name, for messages.
    manifest
        Rows of the scans that could be read, as :func:`groundglass.data.manifest.read_manifest` gives them.
    looks
        What they look like, in the same order.
    unreadable, unread
        The errors of the scans that could not be read, and their rows in the manifest, in the same order.
    with_lungs
        Whether lungs were looked for.
    seed
        Of everything that is drawn.
    """

    name: str
    manifest: pd.DataFrame
    looks: Looks
    unreadable: tuple[ScanError, ...] = ()
    unread: pd.DataFrame = field(default_factory=pd.DataFrame)
    with_lungs: bool = True
    seed: int = 0

    NEEDS: ClassVar[dict[str, Callable[["Material"], str]]]

    @cached_property
    def paths(self) -> NDArray[np.object_]:
        """Absolute paths, str, shape (slices,)."""
        return self.manifest["path"].to_numpy(dtype=object)

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each is labelled COVID-19, shape (slices,)."""
        return (self.manifest["label"] == POSITIVE).to_numpy(dtype=bool)

    @cached_property
    def parts(self) -> NDArray[np.str_]:
        """``train``, ``val``, ``test`` or blank of each, shape (slices,)."""
        return self.manifest["split"].to_numpy(dtype=str)

    @cached_property
    def units(self) -> NDArray[np.intp]:
        """The group that each belongs to as far as the manifest tells, numbered from 0, shape (slices,)."""
        return unit_codes(groups(self.manifest))

    @cached_property
    def headers(self) -> pd.DataFrame:
        """What stands in each file's header; see :func:`read_headers`."""
        return read_headers([Path(path) for path in self.paths])

    @cached_property
    def twins(self) -> list[Twin]:
        """Pairs of scans that show the same picture, exactly or nearly."""
        return find_twins(self.paths.tolist(), self.looks.grey)

    @cached_property
    def hidden(self) -> Hidden:
        """Groups guessed from the order of the files and the likeness of neighbours."""
        return hidden_groups(self.manifest, self.looks.grey, seed=self.seed)


def _two_classes(material: Material) -> str:
    both = material.truth.any() and not material.truth.all()
    return "" if both else "All scans are of one class."


def _two_parts(material: Material) -> str:
    parts = set(material.parts) - {""}
    return "" if len(parts) > 1 else "The manifest is not divided into parts."


def _lungs(material: Material) -> str:
    if not material.with_lungs:
        return "Lungs were not looked for."
    return "" if material.looks.found.any() else "No lungs were found on any slice."


def _two_sources(material: Material) -> str:
    sources = set(material.manifest["source"]) - {""}
    return "" if len(sources) > 1 else "All scans are of one source."


Material.NEEDS = {
    "two classes": _two_classes,
    "two parts": _two_parts,
    "lungs": _lungs,
    "two sources": _two_sources,
}
