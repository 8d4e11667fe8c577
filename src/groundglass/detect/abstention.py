"""When a detector says ``uncertain``: class-conditional split conformal prediction."""

import math
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from groundglass.bundle.facts import Choice, FactsPart
from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE, UNCERTAIN

COVERAGE = 0.9
"""Default coverage."""
ROUNDING = 1e-9
"""Tolerance when a sum of weights is compared with the coverage."""

Share = Annotated[float, Field(ge=0, le=1)]


class Abstention(FactsPart):
    """The probabilities of COVID-19 at which each answer is possible, and those at which the detector abstains.

    If exactly one answer is possible, it is the verdict; if both or neither are possible, the verdict is
    ``uncertain``. See :func:`choose_abstention`.

    Attributes
    ----------
    covid_from
        ``covid`` is possible at or above this probability; 0 if it is always possible.
    other_to
        ``not covid`` is possible at or below this probability; 1 if it is always possible.
    coverage
        The share of each class for which the correct answer should remain possible.
    cases, groups
        The number of slices or patients used to choose the limits, and the number of groups they belong to.
    chosen
        The data used to choose the limits, and the performance on cases that were not used.
    """

    covid_from: Share
    other_to: Share
    coverage: Annotated[float, Field(gt=0, lt=1)]
    cases: int
    groups: int
    chosen: tuple[Choice, ...] = ()

    @property
    def lowest(self) -> float:
        """The lower end of the probabilities at which the verdict is ``uncertain``."""
        return min(self.covid_from, self.other_to)

    @property
    def highest(self) -> float:
        """The upper end of them."""
        return max(self.covid_from, self.other_to)

    @property
    def both_possible(self) -> bool:
        """Whether both answers are possible between the two ends; otherwise neither is."""
        return self.covid_from <= self.other_to

    @property
    def never(self) -> tuple[str, ...]:
        """The verdicts that are never given, because there were too few groups of the other class."""
        silenced = ((POSITIVE, self.other_to >= 1), (NEGATIVE, self.covid_from <= 0))
        return tuple(verdict for verdict, silent in silenced if silent)

    def verdict(self, probability: float) -> str:
        """``covid``, ``not covid`` or ``uncertain``."""
        covid, other = probability >= self.covid_from, probability <= self.other_to
        if covid == other:
            return UNCERTAIN
        return POSITIVE if covid else NEGATIVE

    def why(self, probability: float) -> str:
        """Why the verdict at this probability is ``uncertain``."""
        possible = "both answers remain possible" if self.both_possible else "neither answer holds"
        return f"probability {probability:.2f} lies where {possible} with {self.coverage:.0%} coverage"

    def ends(self) -> str:
        """The range of probabilities of each verdict, in words."""
        below, above = ("below", "over") if self.both_possible else ("up to", "from")
        return (
            f"{NEGATIVE} {below} a probability of {self.lowest:.3f}, {POSITIVE} {above} {self.highest:.3f}, "
            f"{UNCERTAIN} between the two"
        )

    def meaning(self, of: str = "slices") -> str:
        """What the coverage guarantees and what it does not, in one or two sentences."""
        most = 1 - self.coverage
        return (
            f"Coverage {self.coverage:.0%}: among {of} like those on which it was chosen, on average at most "
            f"{most:.0%} of those with COVID-19, and of those without, get the wrong verdict; the rest are "
            f"{UNCERTAIN} where necessary. This does not hold at a hospital whose scans are different."
        )


def choose_abstention(
    truth: ArrayLike,
    probability: ArrayLike,
    units: ArrayLike,
    *,
    coverage: float = COVERAGE,
    chosen: tuple[Choice, ...] = (),
) -> Abstention:
    """Choose, from labelled answers, the probabilities at which each answer remains possible.

    This is split conformal prediction [1]_ [2]_, conditional on the class [1]_ [3]_: an answer remains
    possible unless the probability is more extreme than for the share ``coverage`` of that class, with the
    finite-sample correction. Because slices of one patient are similar, each group has a weight of one,
    divided among its slices, and the new group is counted too [4]_. If each slice is its own group, this
    gives the usual quantile.

    Guarantee: draw a new group, exchangeable with those used here, and from it a slice of one class. On
    average over such draws and over the choice of limits, the correct answer is possible with a probability
    of at least ``coverage``, for each class separately. There is no guarantee for a single patient, a single
    disease or a single range of probabilities, nor under a distribution shift such as a new hospital. The
    answers should therefore come from hospitals that the network was not trained on, which accounts only for
    the shift that such hospitals have in common.

    Parameters
    ----------
    truth
        Whether each slice is COVID-19, shape (slices,).
    probability
        Calibrated, in [0, 1], shape (slices,), by a network that was not trained on the slice.
    units
        The number of each slice's patient or group, shape (slices,).
    coverage
        In (0, 1).
    chosen
        The data used, in words.

    Raises
    ------
    GroundglassError
        If a class is absent or the coverage is not in (0, 1).

    References
    ----------
    .. [1] V. Vovk: Conditional validity of inductive conformal predictors, 2012, arXiv 1209.2673.
    .. [2] A. Angelopoulos, S. Bates: A gentle introduction to conformal prediction and distribution-free
       uncertainty quantification, 2021, arXiv 2107.07511.
    .. [3] M. Sadinle, J. Lei, L. Wasserman: Least ambiguous set-valued classifiers with bounded error levels,
       Journal of the American Statistical Association 114, 2019, arXiv 1609.00451.
    .. [4] Y. Lee, R. F. Barber, R. Willett: Distribution-free inference with hierarchical data, 2023,
       arXiv 2306.06342.
    """
    if not 0 < coverage < 1:
        raise GroundglassError(f"coverage: {coverage:g} is not between 0 and 1; 0.9 is usual")
    truth = np.asarray(truth, dtype=bool)
    probability, units = np.asarray(probability, dtype=float), np.asarray(units)
    if truth.all() or not truth.any():
        missing = NEGATIVE if truth.any() else POSITIVE
        raise GroundglassError(
            f"no slice is labelled {missing}: the uncertain range is chosen on slices of both classes"
        )
    return Abstention(
        covid_from=max(0.0, _kept_from(probability[truth], units[truth], coverage)),
        other_to=min(1.0, -_kept_from(-probability[~truth], units[~truth], coverage)),
        coverage=coverage,
        cases=len(truth),
        groups=len(np.unique(units)),
        chosen=chosen,
    )


def decide(probability: float, threshold: float, abstention: Abstention | None) -> tuple[str, str]:
    """The verdict for a probability, and the reason if it is ``uncertain``, else "".

    The ``abstention`` decides if there is one, otherwise the threshold.
    """
    if abstention is None:
        return (POSITIVE if probability >= threshold else NEGATIVE), ""
    verdict = abstention.verdict(probability)
    return verdict, abstention.why(probability) if verdict == UNCERTAIN else ""


def _kept_from(values: NDArray[np.float64], units: NDArray[np.generic], coverage: float) -> float:
    """The highest value that a share ``coverage`` of the groups reach, counting the new group as one that does not.

    Minus infinity if there are too few groups.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    falling = np.argsort(-values, kind="stable")
    weights = 1 / (sizes[unit] * (len(sizes) + 1))
    reached = np.cumsum(weights[falling]) >= coverage - ROUNDING
    return float(values[falling][reached.argmax()]) if reached.any() else -math.inf
