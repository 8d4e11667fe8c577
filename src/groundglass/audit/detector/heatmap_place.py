"""Does the detector's evidence lie on the lungs?"""

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.measure.figures import surely_under
from groundglass.audit.measure.heat import Place, called_covid, heat_on
from groundglass.audit.trial import Trial
from groundglass.evaluate.summary import format_estimate

LEAST_AIM = 0.25
"""Where evidence is aimed less well at the lungs, between 0 of an even map and 1 of one on the lungs, the check
speaks. A map on lesions at the lungs' border bleeds outside, so that much less than 1 is no fault."""
LEAST_SLICES = 10


class HeatmapPlace(Check[Trial]):
    """Evidence inside the lungs; a warning where it surely is less than a quarter of the way from even to aimed."""

    code = "GG204"
    title = "Looks outside the lungs"
    severity = "warning"
    needs = ("lungs",)
    remedy = (
        "Look at the heatmaps of the files below for what they lie on, such as a border, a letter or the table, "
        "and take that away from the training data; GG201 tells whether it decides the answer."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where too few slices with lungs are called covid."""
        called = called_covid(subject)
        places = called[np.array([subject.segmentations[place].found for place in called], dtype=bool)]
        if len(places) < LEAST_SLICES:
            raise NotApplicable(
                f"The detector calls {len(places)} slices with lungs covid; at least {LEAST_SLICES} are needed."
            )
        lungs = heat_on(subject, places, lambda segmentation: segmentation.trusted_lungs)
        aim = lungs.aim(subject.units[places], subject.material.seed)
        found = surely_under(aim, LEAST_AIM)
        grid = " x ".join(map(str, subject.findings[0].evidence.shape))
        return Result(
            "warning" if found else None,
            f"On {len(places)} slices called covid, {lungs.evidence.mean():.0%} of the evidence for COVID-19 lies "
            f"inside the lungs. A map that lies evenly would have {lungs.area.mean():.0%} there, and one of "
            f"{grid} cells that lies on the lungs alone {lungs.best.mean():.0%}.",
            figure=aim,
            measure="aim at the lungs, 0 for an even map and 1 for one on the lungs alone",
            files=_least_inside(subject, places, lungs) if found else (),
            header=("place", "slices", "of the evidence", "of an even map", "of a map on it alone", "aim"),
            rows=(_row(subject, "lungs", places, lungs), *_lesion_rows(subject, places)),
        )


def _least_inside(trial: Trial, places: NDArray[np.intp], lungs: Place) -> tuple[str, ...]:
    """The files by how little of their evidence is inside the lungs, the least first."""
    return tuple(trial.paths[places[row]] for row in np.argsort(lungs.evidence, kind="stable"))


def _lesion_rows(trial: Trial, places: NDArray[np.intp]) -> list[tuple[str, ...]]:
    shown = np.array([trial.segmentations[place].trusted_lesions.any() for place in places], dtype=bool)
    if not shown.any():
        return []
    lesions = heat_on(trial, places[shown], lambda segmentation: segmentation.trusted_lesions)
    return [_row(trial, "lesions", places[shown], lesions)]


def _row(trial: Trial, name: str, places: NDArray[np.intp], on: Place) -> tuple[str, ...]:
    shares = (f"{share.mean():.0%}" for share in (on.evidence, on.area, on.best))
    return name, str(len(places)), *shares, format_estimate(on.aim(trial.units[places], trial.material.seed))
