"""GG102: slices that show nearly the same picture, in files that differ."""

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.figures import mean
from groundglass.audit.measure.groups import Kind, kind_of_groups
from groundglass.audit.measure.twin_sets import alikeness, compared, counted, pictures, rows_of, sets, touched
from groundglass.audit.measure.twins import NEAR, Twin
from groundglass.data.splits import groups
from groundglass.evaluate.summary import format_estimate


class NearDuplicates(Check[Material]):
    """Looks for copies that were cut, rescaled, recompressed, made brighter or mirrored."""

    code = "GG102"
    title = "Nearly the same picture"
    severity = "warning"
    remedy = (
        "Look at the sets; of copies keep one, and keep the slices of a set together in every split, for instance "
        "by one name in the column group."
    )

    def run(self, material: Material) -> Result:
        """Count pairs, and how many of them are of one patient."""
        count = len(material.paths)
        if count < 2:
            raise NotApplicable("There are fewer than two slices.")
        units = material.units

        def worst_first(twin: Twin) -> tuple[bool, tuple[float, int, int]]:
            return bool(units[twin.first] == units[twin.second]), alikeness(twin)

        twins = sorted((twin for twin in material.twins if twin.how == "same picture"), key=worst_first)
        found = sets(count, twins)
        among = touched(count, twins)
        share = mean(among.astype(float), units, material.seed)
        kind = kind_of_groups(material.manifest)
        message = (
            f"{among.sum()} of {count} slices, a share of {format_estimate(share)}, show nearly the same picture "
            f"as another (likeness of {NEAR} or more): {counted(len(twins), 'pair')} in "
            f"{counted(len(found), 'set')}; in {sum(twin.mirrored for twin in twins)} of the pairs one is the "
            f"other's mirror image. {_within(twins, units, kind)}"
        )
        return Result(
            "warning" if twins else None,
            message if twins else f"No two of the {count} slices show nearly the same picture.",
            share,
            "share of the slices that show nearly the same picture as another",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, found),
            header=compared(_word(kind)),
            rows=rows_of(material, twins, _numbers(material)),
        )


def _word(kind: Kind) -> str:
    return "patient" if kind == "slice" else kind


def _within(twins: list[Twin], units: NDArray[np.intp], kind: Kind) -> str:
    """How many of the pairs may be no copies but neighbours."""
    same = sum(units[twin.first] == units[twin.second] for twin in twins)
    told = (
        "No patient is known, so that it cannot be told how many of the pairs are of one patient."
        if kind == "slice"
        else f"{same} of the pairs are within one {kind}, {len(twins) - same} are not."
    )
    return f"{told} Neighbouring slices of one patient can be that alike without being copies."


def _numbers(material: Material) -> NDArray[np.str_]:
    """A number for the group of each slice, since no id goes into a report; blank where no group is known."""
    known = groups(material.manifest) != material.manifest["path"]
    return np.where(known, (material.units + 1).astype(str), "")
