"""A bundle's findings on a patient's volume: the answer, the extent of disease, and each slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass import __version__
from groundglass.detect.bundle import BundleFacts
from groundglass.detect.findings import Findings, SliceFinding
from groundglass.detect.patient_rule import LEAST_LUNG_SLICES, LEAST_OF_LARGEST, LungSlices, shows_chest
from groundglass.detect.setting import DIFFERENTIAL, LikelihoodRatio, Setting
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, UNCERTAIN
from groundglass.segment.extent import SIDES, ZONES, DiseaseExtent, cut_off, disease_extent
from groundglass.segment.notebook import as_html
from groundglass.segment.shares import lesions_in_words
from groundglass.segment.stack import StackViewer
from groundglass.segment.volume import VolumeMasks

LEAST_LUNG_ML = 300.0
"""Both lungs of an adult hold 2000 to 7000 ml together; less than this cannot be two whole lungs."""
LEAST_NEWBORN_ML, LEAST_ML_A_YEAR = 50.0, 90.0
"""Smallest volume of a newborn's lungs, and the increase per year of age: half of the normal values on CT,
100 ml in newborns and 470 ml at two years (Stein et al. 2016, Pediatric Radiology 46:1804, PMC5116406)."""
ADULT_YEARS = 18
PAIRED = 0.5
"""If the age is unknown, a smaller volume is still a chest CT if this share of its slices shows both lungs."""
LEAST_SIDE = 0.4
"""Smallest usual ratio of the smaller lung to the larger one; in nine complete volumes it was 0.77 to 0.98."""

BANDS = (
    (0.25, "CT-1, mild"),
    (0.5, "CT-2, moderate"),
    (0.75, "CT-3, severe"),
    (float("inf"), "CT-4, critical"),
)
"""Upper limit of the share of diseased lung, and the band's name."""
NO_LESIONS = 0.0025
"""Up to this share the band is CT-0: 95% of the slice groups without COVID-19 in sarscov2-ct have less."""
BAND_SOURCE = (
    "share of both lungs that is lesion, as the segmenter finds it, in the bands of Morozov et al. 2020, "
    f"arXiv:2005.06465 (MosMedData); up to {NO_LESIONS:.2%} counts as CT-0"
)


@dataclass(frozen=True, repr=False)
class PatientFinding(Findings):
    """A bundle's findings on one volume.

    Attributes
    ----------
    probability
        The patient's probability, calibrated by the bundle's rule; None if there are no lungs.
    verdict
        ``covid``, ``not covid``, ``uncertain`` or ``not a chest CT``.
    reason
        Why the verdict is ``uncertain`` or ``not a chest CT``; else "".
    extent
        By region: ``both`` and, if known, ``right``, ``left`` and zones such as ``right_upper``; see
        groundglass.segment.extent.disease_extent.
    severity
        The band of the lesion share, see :data:`BAND_SOURCE`; "" if there are no lungs, or if one lung is
        missing or much smaller than the other.
    slices
        Every slice of the volume, from the feet to the head.
    warnings
        Caveats about the volume to read before trusting the answer.
    bundle
        The bundle's name.
    likelihood_ratios
        The strength of the evidence for COVID-19 in each setting; empty if the bundle knows none.
    view
        The volume and its masks; None once dropped.
    """

    probability: float | None
    verdict: str
    reason: str
    extent: dict[str, DiseaseExtent]
    severity: str
    slices: tuple[SliceFinding, ...]
    warnings: tuple[str, ...] = ()
    bundle: str = ""
    likelihood_ratios: tuple[LikelihoodRatio, ...] = ()
    view: VolumeMasks | None = field(default=None, compare=False)

    @property
    def lesion_share(self) -> float | None:
        """The share of both lungs that is lesion, in [0, 1]; None if there is no lung."""
        return self.extent["both"].lesion_share

    @property
    def type_shares(self) -> dict[str, float]:
        """The shares of both lungs that are ground glass and consolidation, if the segmenter distinguishes them."""
        return self.extent["both"].type_shares

    @property
    def masks(self) -> VolumeMasks:
        """The lungs and lesions, with the volume; raises ValueError once dropped."""
        if self.view is None:
            raise ValueError("the volume of this finding has been dropped from memory")
        return self.view

    def headline(self) -> str:
        """The finding in one sentence, without a full stop."""
        return super().headline() + (f" ({self.severity})" if self.severity else "")

    def picture(self) -> Image.Image:
        """Up to 20 slices from the head to the feet with their masks, in RGB; raises ValueError once dropped."""
        return self.masks.picture(
            (
                self.headline(),
                f"Groundglass {__version__}, {self.bundle}. RESEARCH USE ONLY, not a medical device. "
                f"{self.masks.legend}",
            )
        )

    def stack(self) -> StackViewer:
        """All slices with their masks, beginning at the one with most lesion; raises ValueError once dropped."""
        telling = self.most_telling(1)
        wanted = telling[0].number - 1 if telling else len(self.slices) // 2
        return self.masks.stack([self._caption(one) for one in self.slices], wanted)

    def _caption(self, one: SliceFinding) -> str:
        parts = [f"slice {one.number} of {len(self.slices)}"]
        if one.height_mm is not None:
            parts.append(f"{one.height_mm:.1f} mm")
        if one.lesion_share is not None and one.probability is not None:
            parts += [lesions_in_words(one.lesion_share, one.type_shares), one.strength()]
        else:
            parts.append(one.reason)
        return ", ".join(parts)

    def _repr_html_(self) -> str:
        if self.view is None:
            return as_html(self.headline(), None, self.extent, self.warnings)
        return as_html(self.headline(), self.picture(), self.extent, self.warnings, self.stack())

    @property
    def counted(self) -> list[SliceFinding]:
        """The slices that count for the probability."""
        return [answer for answer in self.slices if answer.counted]

    def most_telling(self, count: int) -> list[SliceFinding]:
        """The slices to look at first: those with most lesion, then those with the highest probability."""
        ranked = sorted(self.counted, key=lambda one: (-sum(one.lesions_px), -(one.probability or 0)))
        return ranked[:count]

    def to_dict(self) -> dict[str, Any]:
        """The finding as a dictionary for JSON; unknown ``right`` and ``left`` are None, and unknown
        ``zones`` empty."""
        figures = {region: _figures(one) for region, one in self.extent.items()}
        return {
            "probability": _rounded(self.probability, 6),
            "verdict": self.verdict,
            "reason": self.reason,
            "likelihood_ratios": [ratio.to_dict() for ratio in self.likelihood_ratios],
            "severity": self.severity,
            "severity_source": BAND_SOURCE,
            **{side: figures.get(side) for side in SIDES},
            "zones": {zone: figures[zone] for zone in ZONES if zone in figures},
            "slices_counted": len(self.counted),
            "warnings": list(self.warnings),
            "slices": [_slice(answer, sides="right" in self.extent) for answer in self.slices],
        }


def _figures(extent: DiseaseExtent) -> dict[str, float | None]:
    return {
        name: _rounded(value, 3 if name.endswith("_ml") else 6) for name, value in extent.figures().items()
    }


def _slice(answer: SliceFinding, *, sides: bool) -> dict[str, Any]:
    lungs, lesions = (
        dict(zip(SIDES[:2], areas if sides else (None, None), strict=True))
        for areas in (answer.lungs_px, answer.lesions_px)
    )
    return {
        "number": answer.number,
        "height_mm": _rounded(answer.height_mm, 3),
        "counted": answer.counted,
        "probability": _rounded(answer.probability, 6),
        "score": _rounded(answer.score, 6),
        "lesion_share": _rounded(answer.lesion_share, 6),
        "lungs_px": lungs,
        "lesions_px": lesions,
        **{name: round(share, 6) for name, share in answer.type_shares.items()},
        "reason": answer.reason,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def severity(share: float | None) -> str:
    """The band of a lesion share in [0, 1], see :data:`BAND_SOURCE`; "" for None."""
    if share is None:
        return ""
    if share <= NO_LESIONS:
        return "CT-0, none or minimal"
    return next(name for end, name in BANDS if share <= end)


def conclude(
    facts: BundleFacts,
    slices: Sequence[SliceFinding],
    thickness_mm: NDArray[np.float64] | None,
    pixel_mm2: float | None,
    warnings: Sequence[str] = (),
    age_years: float | None = None,
    *,
    oriented: bool = True,
) -> PatientFinding:
    """Combine a volume's slices into the patient's answer.

    Parameters
    ----------
    facts
        The bundle's facts; their rule for patients is used.
    slices
        Every slice, from the feet to the head.
    thickness_mm
        The thickness that each slice represents, shape (slices,); None if unknown.
    pixel_mm2
        The area of a pixel; None if unknown.
    warnings
        The assumptions made while reading.
    age_years
        The patient's age in years; None if unknown.
    oriented
        Whether the volume's orientation is known; otherwise single lungs and zones are not reported.
    """
    lungs, lesions = (
        np.array([getattr(one, name) for one in slices], dtype=float) for name in ("lungs_px", "lesions_px")
    )
    consolidation = _consolidation(slices)
    extent = disease_extent(lungs, lesions, thickness_mm, pixel_mm2, consolidation, oriented=oriented)
    weights = np.ones(len(slices)) if thickness_mm is None else thickness_mm
    bearing = [
        (answer, weight) for answer, weight in zip(slices, weights, strict=True) if sum(answer.lungs_px)
    ]
    lung_ml = extent["both"].lung_ml
    reason = _no_chest(slices, lung_ml, age_years)
    if reason:
        return _refused(facts, reason, extent, slices, warnings)
    probability, verdict, reason = facts.patient_rule.answer(_lung_slices(bearing))
    if facts.settings:
        verdict, reason = _by_lesions(facts.setting, verdict, reason, extent["both"].lesion_share)
    one_sided = _one_sided(weights @ lungs, named=oriented)
    return PatientFinding(
        probability=probability,
        verdict=verdict,
        reason=reason,
        extent=extent,
        severity="" if one_sided else severity(extent["both"].lesion_share),
        slices=tuple(slices),
        warnings=(*warnings, *one_sided, *_small(slices, lung_ml, age_years), *_doubts(facts, lungs)),
        bundle=facts.name,
        likelihood_ratios=tuple(
            _patient_ratio(name, setting, bearing, facts.pretest) for name, setting in facts.settings.items()
        ),
    )


def _by_lesions(setting: str, verdict: str, reason: str, share: float | None) -> tuple[str, str]:
    """The verdict and its reason, taking the lesion share into account.

    Without lesions there is no evidence for COVID-19. If the controls have other diseases, lesions alone are
    not evidence either.
    """
    if share is None or share <= NO_LESIONS:
        return NEGATIVE, ""
    if verdict == UNCERTAIN and setting == DIFFERENTIAL:
        return verdict, f"lesions present, cause open: {reason}"
    return verdict, reason


def _refused(
    facts: BundleFacts,
    reason: str,
    extent: Mapping[str, DiseaseExtent],
    slices: Sequence[SliceFinding],
    warnings: Sequence[str],
) -> PatientFinding:
    """A finding without probability and lesions, for a volume that is not a chest CT and for its slices."""
    return PatientFinding(
        probability=None,
        verdict=NOT_A_CHEST_CT,
        reason=reason,
        extent={
            side: replace(extent[side], lesion=None, consolidation=None) for side in SIDES if side in extent
        },
        severity="",
        slices=tuple(
            SliceFinding(
                number=one.number,
                height_mm=one.height_mm,
                reason=one.reason or "the volume is not a chest CT",
            )
            for one in slices
        ),
        warnings=tuple(warnings),
        bundle=facts.name,
    )


def _consolidation(slices: Sequence[SliceFinding]) -> NDArray[np.float64] | None:
    """Pixels of consolidation on each slice, right and left; None if the segmenter does not distinguish types."""
    if all(one.consolidation_px is None for one in slices):
        return None
    return np.array([one.consolidation_px or (0, 0) for one in slices], dtype=float)


def enough_lung(slices: Sequence[SliceFinding]) -> list[bool]:
    """Which slices show enough lung to contribute to the patient's probability."""
    areas = [sum(answer.lungs_px) for answer in slices]
    least = LEAST_OF_LARGEST * max(areas, default=0)
    return [area > 0 and area >= least for area in areas]


def _patient_ratio(
    name: str,
    setting: Setting,
    bearing: Sequence[tuple[SliceFinding, float]],
    pretest: float | None,
) -> LikelihoodRatio:
    """The likelihood ratio of a patient, with the interval from the rule, or else from the slices."""
    rule = setting.patient_rule
    own = np.array([found.probability for found, _ in bearing], dtype=float)

    def logits(end: str) -> list[float]:
        known = [{one.setting: getattr(one, end) for one in found.likelihood_ratios} for found, _ in bearing]
        odds = np.array([ratios.get(name, np.nan) for ratios in known])
        probability = np.where(np.isnan(odds), own, odds / (1 + odds))
        return rule.logits(replace(_lung_slices(bearing), probability=probability))

    found = logits("ratio")
    if not rule.draws:
        found += [logits(end)[0] for end in ("low", "high")]
    ratio = setting.ratio(name, found, pretest)
    return replace(ratio, validated=ratio.validated and setting.patient is not None)


def _lung_slices(bearing: Sequence[tuple[SliceFinding, float]]) -> LungSlices:
    return LungSlices(
        np.array([answer.probability for answer, _ in bearing], dtype=float),
        np.array([answer.lungs_px for answer, _ in bearing], dtype=float),
        np.array([answer.lesions_px for answer, _ in bearing], dtype=float),
        np.array([weight for _, weight in bearing], dtype=float),
    )


def least_lung_ml(age_years: float | None) -> float:
    """The smallest plausible volume of both lungs in ml; that of an adult if the age is unknown."""
    if age_years is None:
        return LEAST_LUNG_ML
    return min(LEAST_LUNG_ML, LEAST_NEWBORN_ML + LEAST_ML_A_YEAR * age_years)


def _no_chest(slices: Sequence[SliceFinding], lung_ml: float | None, age_years: float | None) -> str:
    """Why a volume is not a chest CT; "" if it is one."""
    bearing = sum(sum(one.lungs_px) > 0 for one in slices)
    if not shows_chest(bearing, len(slices)):
        return f"lungs were found on {bearing} of {len(slices)} slices"
    least = least_lung_ml(age_years)
    if lung_ml is None or lung_ml >= least or len(slices) < LEAST_LUNG_SLICES:
        return ""
    paired = sum(min(one.lungs_px) > 0 for one in slices)
    if age_years is None and lung_ml >= LEAST_NEWBORN_ML and paired >= PAIRED * len(slices):
        return ""
    return f"the lungs that were found hold {lung_ml:.0f} ml (at least {least:.0f} ml are needed)"


def _one_sided(areas: NDArray[np.float64], *, named: bool) -> list[str]:
    """A warning if one lung is missing or much smaller than the other; ``areas`` are those of the right and
    left lung."""
    smaller, larger = ("the right", "the left") if areas[0] < areas[1] else ("the left", "the right")
    if not named:
        smaller, larger = "one", "the other"
    share = float(areas.min() / areas.max())
    if share >= LEAST_SIDE:
        return []
    found = "was not found" if share < 0.01 else f"holds only {share:.0%} of {larger} one"
    return [
        f"{smaller} lung {found}: it may be removed, collapsed, filled or cut off. The share of lesions is "
        "that of the lung that was found, so no severity band is given"
    ]


def _small(slices: Sequence[SliceFinding], lung_ml: float | None, age_years: float | None) -> list[str]:
    """A warning if the lungs are, or may be, a child's."""
    if age_years is not None and age_years < ADULT_YEARS:
        return ["the patient is a child: the detector was made for adults"]
    small = lung_ml is not None and lung_ml < LEAST_LUNG_ML and len(slices) >= LEAST_LUNG_SLICES
    if age_years is None and small:
        return [
            f"the lungs hold only {lung_ml:.0f} ml, and the patient's age is not known: they are an infant's, or "
            "only part of them was scanned; the detector was made for adults"
        ]
    return []


def _doubts(facts: BundleFacts, lungs: NDArray[np.float64]) -> list[str]:
    """Reasons to doubt the answer, in words."""
    doubts = []
    if ends := cut_off(lungs):
        doubts.append(
            f"the lungs extend {' and '.join(ends)} the volume: only the part within it was measured, without zones"
        )
    if facts.patient is None and facts.settings:
        doubts.append(
            f"no rule for {facts.setting} was chosen on patients: the answer is the mean over the slices, weighted "
            "by their lesions"
        )
    elif facts.patient is None:
        doubts.append("this bundle has no rule for patients: its probability is not calibrated for them")
    return doubts
