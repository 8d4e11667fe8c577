"""Does the answer depend on what the heatmap shows?"""

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.measure.changed import some_of
from groundglass.audit.measure.deletion import SHARES, area_under, deletion_curves
from groundglass.audit.measure.figures import mean, surely_over
from groundglass.audit.measure.heat import called_covid
from groundglass.audit.trial import Trial
from groundglass.evaluate.summary import format_estimate

LEAST_SLICES, MOST_SLICES = 10, 100


class Deletion(Check[Trial]):
    """The deletion test (Petsiuk and others 2018, RISE, arXiv 1806.07421) against random deletion.

    A warning where blacking out the hottest places does not surely lower the probability more than blacking out
    as much of the slice at random.
    """

    code = "GG205"
    title = "Heatmap does not explain the answer"
    severity = "warning"
    remedy = (
        "Do not read these heatmaps as the reason of an answer. If that is what they are for, export the "
        "detector with a heatmap of its own classifier (class activation of the last layer)."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where too few slices are called covid."""
        seed = subject.material.seed
        places = some_of(called_covid(subject), MOST_SLICES, seed)
        if len(places) < LEAST_SLICES:
            raise NotApplicable(
                f"The detector calls {len(places)} slices covid; at least {LEAST_SLICES} are needed."
            )
        hottest, random = deletion_curves(subject, places)
        units = subject.units[places]
        gain = mean(area_under(random) - area_under(hottest), units, seed)
        found = not surely_over(gain, 0)
        after = [f"{curves[:, -1].mean():.2f}" for curves in (hottest, random)]
        return Result(
            "warning" if found else None,
            f"Blacking out the hottest {SHARES[-1]:.0%} of {len(places)} slices called covid brings their mean "
            f"probability from {hottest[:, 0].mean():.2f} to {after[0]}, and as much at random to "
            f"{after[1]}. The area between the two curves is {format_estimate(gain, 3)}: the heatmap "
            f"{'does not surely show' if found else 'shows'} what the answer depends on.",
            figure=gain,
            measure="area between random and hottest-first deletion",
            header=("blacked out", "hottest first", "at random"),
            rows=tuple(
                (f"{share:.0%}", *(f"{curves[:, step].mean():.2f}" for curves in (hottest, random)))
                for step, share in enumerate((0.0, *SHARES))
            ),
        )
