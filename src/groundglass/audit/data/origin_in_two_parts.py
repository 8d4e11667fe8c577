"""GG105: whether slices of one paper or series lie in two parts of the split."""

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.origins import origins
from groundglass.audit.measure.torn import Torn, torn
from groundglass.data.manifest import PARTS
from groundglass.evaluate.summary import format_estimate

NAMED = 3
"""Origins that are named in the message."""


class OriginInTwoParts(Check[Material]):
    """Looks for papers and series, as the files' names tell them, in more than one part."""

    code = "GG105"
    title = "Paper or series in two parts"
    severity = "warning"
    needs = ("two parts",)
    remedy = (
        "Write the paper or series into the column group of the manifest and divide anew with groups kept "
        "together: pictures of one paper share scanner, window, crop and often the patient."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of the files of each origin."""
        told = origins(material.manifest)
        if (told == "").all():
            raise NotApplicable("The names of the files tell of no paper or series.")
        found = torn(told, material.manifest["source"], material.parts)
        known = int((told != "").sum())
        return Result(
            "warning" if found.names else None,
            f"{known} of {len(told)} file names tell of a paper or series, {told[told != ''].nunique()} in all. "
            f"{_sentence(found)}",
            found.share,
            f"share of the {found.held_out} slices whose paper or series is in {found.others} too",
            files=tuple(material.paths[found.slices].tolist()),
            side_by_side=found.pictures(material.paths, material.parts),
            header=("Paper or series", *(part.capitalize() for part in PARTS)),
            rows=found.counts(material.parts),
        )


def _sentence(found: Torn) -> str:
    if not found.names:
        return "None of them lies in two parts of the split."
    more = ", ..." if len(found.names) > NAMED else ""
    lie = "lies" if len(found.names) == 1 else "lie"
    return (
        f"{len(found.names)} of them {lie} in two parts ({', '.join(found.names[:NAMED])}{more}), with "
        f"{len(found.slices)} slices; of the {found.held_out} slices a share of {format_estimate(found.share)} has "
        f"its paper or series in {found.others} too."
    )
