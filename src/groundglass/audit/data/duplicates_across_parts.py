"""GG106: one picture in two parts of the split."""

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.figures import mean
from groundglass.audit.measure.twin_sets import compared, counted, differing, pictures, rows_of, sets, touched
from groundglass.data.manifest import PARTS
from groundglass.evaluate.summary import format_estimate


class DuplicatesAcrossParts(Check[Material]):
    """Looks for pictures that are trained on and tested on."""

    code = "GG106"
    title = "Same picture in two parts"
    severity = "error"
    needs = ("two parts",)
    remedy = (
        "Take the copies out of the training part, or divide anew with the sets kept together, and train and test "
        "again: scores on this split are too good."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of all pairs that show the same picture."""
        count, parts = len(material.paths), material.parts
        twins = differing(material.twins, parts)
        *others, held_out = (part for part in PARTS if (parts == part).any())
        held = parts == held_out
        among = touched(count, twins)
        share = mean(among[held].astype(float), material.units[held], material.seed)
        message = (
            f"The same picture lies in two parts of the split in {counted(len(twins), 'pair')} of slices; of the "
            f"{held.sum()} {held_out} slices a share of {format_estimate(share)} is in {' or '.join(others)} too."
        )
        return Result(
            "error" if twins else None,
            message if twins else "No slice shows the same picture as one in another part.",
            share,
            f"share of the {held_out} slices whose picture is in {' or '.join(others)} too",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, sets(count, twins)),
            header=compared("part"),
            rows=rows_of(material, twins, parts),
        )
