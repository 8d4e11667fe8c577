"""GG119: files that were left out because they cannot be read."""

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.evaluate.evaluation import Estimate

LOST = 0.01
"""Share of a class or a part from which on its loss is an error: it may change what the figures are of."""


class Unreadable(Check[Material]):
    """Counts what cannot be read, of all files and of the class or part that loses most."""

    code = "GG119"
    title = "Files that cannot be read"
    severity = "error"
    remedy = (
        "Get the files anew or take their rows out of the manifest, and say in every report how many were left out "
        "and of which class."
    )

    def run(self, material: Material) -> Result:
        """Count them."""
        lost = [error.path for error in material.unreadable]
        total = len(material.manifest) + len(lost)
        if not lost:
            return Result(None, f"All {total} files can be read.", Estimate(value=0.0), "share of files")
        name, gone, of = _hit_most(material)
        return Result(
            "error" if gone / of > LOST else "warning",
            f"{len(lost)} of {total} files ({len(lost) / total:.1%}) cannot be read and are left out of the other "
            f"checks. {name} loses the largest share, {gone} of {of} ({gone / of:.1%}).",
            Estimate(value=len(lost) / total),
            "share of files",
            files=tuple(map(str, lost)),
            header=("File", "Problem"),
            rows=tuple(
                (error.path.name, "; ".join(filter(None, (error.problem, error.remedy))))
                for error in material.unreadable
            ),
        )


def _hit_most(material: Material) -> tuple[str, int, int]:
    """The class or part that loses the largest share, in words, how many files it loses, and of how many."""
    losses = []
    for column, word in (("label", "The class"), ("split", "The part")):
        gone = material.unread[column].value_counts()
        of = gone.add(material.manifest[column].value_counts(), fill_value=0)
        losses += [(f"{word} {value}", int(gone[value]), int(of[value])) for value in gone.index if value]
    return max(losses, key=lambda loss: loss[1] / loss[2])
