"""GG109: whether the label can be told where no lung is."""

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.auc import severity_of
from groundglass.audit.measure.regions import Features, border_ring, lung_box, outside_lungs
from groundglass.audit.measure.telling import HEADER, measure_name, row, surest
from groundglass.audit.measure.told import Told, told
from groundglass.evaluate.predictions import unit_codes
from groundglass.evaluate.summary import format_estimate

RING, OUTSIDE = "the border", "everything outside the lungs' box"
BOX = "the lungs' box: its place and size"


class LabelWithoutLungs(Check[Material]):
    """How well the label is told from the border and from everything outside the lungs."""

    code = "GG109"
    title = "Label without lungs"
    severity = "error"
    needs = ("two classes", "lungs")
    remedy = (
        "Look at the slices side by side for what gives the label away (crop, table, arms, text, window), crop "
        "or mask all slices alike, and report how the detector does with the lungs removed."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from both regions of the slices on which lungs were found."""
        found = material.looks.found
        grey, lungs = material.looks.grey[found], material.looks.lungs[found]
        truth, units = material.truth[found], unit_codes(material.units[found].astype(str))

        def telling(features: Features) -> Told:
            return told(features, truth, units, material.parts[found], material.seed)

        regions = {RING: telling(border_ring(grey, lungs)), OUTSIDE: telling(outside_lungs(grey, lungs))}
        box = telling(lung_box(lungs))
        best = max(regions, key=lambda name: regions[name].crossed.value or 0)
        figure = regions[best].crossed
        severity = severity_of(figure)
        shown = surest(regions[best].scores, truth, units, material.paths[found]) if severity else ()
        return Result(
            severity,
            _message(regions, box, severity is not None) + _left_out(len(found), int((~found).sum())),
            figure,
            f"{measure_name(regions[best])}, from {best}",
            files=tuple(file for (file,) in shown),
            side_by_side=shown,
            header=HEADER,
            rows=tuple(row(name, region) for name, region in {**regions, BOX: box}.items()),
        )


def _message(regions: dict[str, Told], box: Told, is_told: bool) -> str:
    figures = " and ".join(
        f"from {name} with AUC {format_estimate(region.crossed)}" for name, region in regions.items()
    )
    verdict = "the label is told" if is_told else "the label is not surely told"
    return (
        f"Without any lung {verdict}: {figures}; the place and size of the box alone give "
        f"{format_estimate(box.crossed)}."
    )


def _left_out(count: int, without: int) -> str:
    return f" {without} of {count} slices, on which no lungs were found, are left out." if without else ""
