"""GG104: whether slices of one patient lie in two parts of the split."""

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.torn import Torn, torn
from groundglass.data.manifest import PARTS
from groundglass.evaluate.summary import format_estimate

COLUMNS = ("patient", "group")
"""Of the manifest, the second one where it is there."""


class PatientInTwoParts(Check[Material]):
    """Looks for patients, and groups that the manifest names, in more than one part."""

    code = "GG104"
    title = "Patient in two parts"
    severity = "error"
    needs = ("two parts",)
    remedy = (
        "Divide anew with the patients kept together (split grouped), and train and test again: scores on this "
        "split are too good."
    )

    def run(self, material: Material) -> Result:
        """Compare the parts of the slices of each patient and group."""
        manifest = material.manifest
        columns = [column for column in COLUMNS if column in manifest and (manifest[column] != "").any()]
        if not columns:
            raise NotApplicable("The manifest names no patient and no group.")
        found = {column: torn(manifest[column], manifest["source"], material.parts) for column in columns}
        column, worst = max(found.items(), key=lambda item: len(item[1].slices))
        unnamed = int((manifest[columns] == "").all(axis=1).sum())
        return Result(
            "error" if worst.names else None,
            " ".join([*(_sentence(name, one) for name, one in found.items()), *_unknown(unnamed)]),
            worst.share,
            f"share of the {worst.held_out} slices whose {column} is in {worst.others} too",
            files=tuple(material.paths[worst.slices].tolist()),
            side_by_side=worst.pictures(material.paths, material.parts),
            header=("Which", *(part.capitalize() for part in PARTS)),
            # Numbered, since no id of a patient goes into a report.
            rows=tuple(
                (f"{name} {number}", *counts)
                for name, one in found.items()
                for number, (_, *counts) in enumerate(one.counts(material.parts), start=1)
            ),
        )


def _sentence(column: str, one: Torn) -> str:
    if not one.names:
        return f"No {column} lies in two parts of the split."
    lie = f"{column} lies" if len(one.names) == 1 else f"{column}s lie"
    return (
        f"{len(one.names)} {lie} in two parts of the split, with {len(one.slices)} slices; of the {one.held_out} "
        f"slices a share of {format_estimate(one.share)} has its {column} in {one.others} too."
    )


def _unknown(unnamed: int) -> list[str]:
    return [f"{unnamed} slices name neither and are not judged."] if unnamed else []
