"""GG103: one picture under both labels."""

import numpy as np

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.figures import mean
from groundglass.audit.measure.twin_sets import compared, counted, differing, pictures, rows_of, sets, touched
from groundglass.evaluate.summary import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE


class OppositeLabels(Check[Material]):
    """Looks for pictures that are labelled COVID-19 in one file and not in another."""

    code = "GG103"
    title = "Same picture, opposite labels"
    severity = "error"
    needs = ("two classes",)
    remedy = (
        "Look at each pair and ask where the files come from: at least one of the two labels is wrong, or they are "
        "neighbours of one patient. Correct it, or take both out."
    )

    def run(self, material: Material) -> Result:
        """Compare the labels of all pairs that show the same picture."""
        count = len(material.paths)
        twins = differing(material.twins, np.where(material.truth, POSITIVE, NEGATIVE))
        among = touched(count, twins)
        share = mean(among.astype(float), material.units, material.seed)
        message = (
            f"The same picture is there under opposite labels in {counted(len(twins), 'pair')} of slices, and at "
            f"least one of the two is wrong. Of the {count} slices this concerns {among.sum()}, a share of "
            f"{format_estimate(share, 3)}."
        )
        return Result(
            "error" if twins else None,
            message if twins else "No picture is there under both labels.",
            share,
            "share of the slices whose picture is there under the opposite label",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, sets(count, twins)),
            header=compared("label"),
            rows=rows_of(material, twins, material.manifest["label"].to_numpy(dtype=str)),
        )
