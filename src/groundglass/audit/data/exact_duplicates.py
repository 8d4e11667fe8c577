"""GG101: files that are there more than once."""

from pathlib import Path

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.figures import mean
from groundglass.audit.measure.twin_sets import counted, pictures, sets, touched
from groundglass.evaluate.summary import format_estimate


class ExactDuplicates(Check[Material]):
    """Compares all files byte for byte."""

    code = "GG101"
    title = "Files that are equal byte for byte"
    severity = "warning"
    remedy = "Keep one file of each set: the others count one picture several times, and make intervals too narrow."

    def run(self, material: Material) -> Result:
        """Count files that are equal to another."""
        count = len(material.paths)
        if count < 2:
            raise NotApplicable("There are fewer than two slices.")
        twins = [twin for twin in material.twins if twin.how == "same file"]
        found = sorted(sets(count, twins), key=len, reverse=True)
        among = touched(count, twins)
        share = mean(among.astype(float), material.units, material.seed)
        message = (
            f"The files of {among.sum()} of {count} slices, a share of {format_estimate(share, 3)}, are equal to "
            f"another byte for byte, in {counted(len(found), 'set')}; with one of each set {count - len(twins)} "
            "are left."
        )
        return Result(
            "warning" if found else None,
            message if found else f"No two of the {count} files are equal byte for byte.",
            share,
            "share of the slices whose file is equal to another",
            files=tuple(material.paths[among].tolist()),
            side_by_side=pictures(material, found),
            header=("Files", "Names", "Labels", "Parts"),
            rows=tuple(_row(material, members) for members in found),
        )


def _row(material: Material, members: list[int]) -> tuple[str, ...]:
    names = (Path(path).name for path in material.paths[members])
    values = (sorted(set(material.manifest[column].iloc[members]) - {""}) for column in ("label", "split"))
    return str(len(members)), ", ".join(names), *map(", ".join, values)
