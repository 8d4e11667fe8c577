"""Two volumes of one patient compared: lungs and lesions before and after, by region and lesion type.

Everything is taken from the two ``findings.json`` files, so nothing is segmented again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.errors import GroundglassError
from groundglass.labels import NOT_A_CHEST_CT
from groundglass.report.page import Report, Table, made_by_rows
from groundglass.segment.extent import REGIONS, SIDES, region_name

Document = Mapping[str, Any]
KINDS = {"lesion": "Lesions", "ground_glass": "Ground glass", "consolidation": "Consolidation"}
SPACING_RATIO = 1.2
"""If slice distances differ by more than this factor, the two volumes do not show small lesions equally well."""
LIMIT = (
    "Differences in inspiration also change the volumes and shares, and so does the segmenter's error, "
    "which is unknown for this patient. A small change may mean neither improvement nor progression."
)


@dataclass(frozen=True)
class Change:
    """An amount before and after, in ml or as a share in [0, 1]; None if unknown."""

    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """After minus before; None if one of them is unknown."""
        return None if self.before is None or self.after is None else self.after - self.before

    def to_dict(self, share: bool) -> dict[str, float | None]:
        """The change as a dictionary for JSON; the change of a share is in percentage points."""
        name, factor = ("change_points", 100) if share else ("change", 1)
        change = None if self.change is None else round(factor * self.change, 6)
        return {"before": self.before, "after": self.after, name: change}


@dataclass(frozen=True)
class FollowUp:
    """The comparison of two volumes.

    Attributes
    ----------
    before, after
        The findings, as in ``findings.json``.
    changes
        By region and amount, such as ``changes["both"]["lesion_ml"]``; regions and amounts that only one of the
        volumes has are left out.
    warnings
        Reasons why the two are less comparable.
    """

    before: Document
    after: Document
    changes: dict[str, dict[str, Change]]
    warnings: list[str]

    def headline(self) -> str:
        """The change in one sentence."""
        share, volume = self.changes["both"]["lesion_share"], self.changes["both"]["lesion_ml"]
        if share.before is None or share.after is None or share.change is None:
            return "The change is not known, because no lungs were found in one of the volumes."
        points = abs(100 * share.change)
        moved = "rose" if share.change > 0 else "fell"
        how = "is unchanged" if round(points, 1) == 0 else f"{moved} by {points:.1f} percentage points"
        known = volume.change is not None
        amounts = f"; lesions: {_ml(volume.before)} before, {_ml(volume.after)} after" if known else ""
        shares = f"from {share.before:.1%} to {share.after:.1%}"
        return f"The share of the lungs that is lesion {how}, {shares}{amounts}."

    def to_dict(self) -> dict[str, Any]:
        """The content of ``followup.json``."""
        kept = ("study", "patient", "verdict", "probability", "severity", "bundle", "segmenter", "volume")
        return {
            "groundglass": __version__,
            "research_use": RESEARCH_USE,
            "headline": self.headline(),
            "before": {name: self.before.get(name) for name in kept},
            "after": {name: self.after.get(name) for name in kept},
            "regions": {
                region: {name: one.to_dict(name.endswith("_share")) for name, one in amounts.items()}
                for region, amounts in self.changes.items()
            },
            "warnings": self.warnings,
        }

    def report(self) -> Report:
        """The page."""
        kinds = {kind: title for kind, title in KINDS.items() if f"{kind}_ml" in self.changes["both"]}
        return Report(
            title="Follow-up of lesions on chest CT",
            headline=self.headline(),
            warnings=[*self.warnings, LIMIT],
            tables_title="Before and after",
            figures_of_merit=[*(self._lesions(*kind) for kind in kinds.items()), self._lungs()],
            facts=[self._about()],
        )

    def _lesions(self, kind: str, title: str) -> Table:
        header = ("", "before", "after", "change", "share of the lung before", "after", "change")
        rows = [
            (region_name(region), *_cells(one[f"{kind}_ml"], "ml"), *_cells(one[f"{kind}_share"], "%"))
            for region, one in self.changes.items()
        ]
        return Table(title, header, rows)

    def _lungs(self) -> Table:
        rows = [(region_name(region), *_cells(one["lung_ml"], "ml")) for region, one in self.changes.items()]
        return Table("Lung volume", ("", "before", "after", "change"), rows)

    def _about(self) -> Table:
        sides = [_described(one) for one in (self.before, self.after)]
        rows = [(name, *(side[name] for side in sides)) for name in sides[0]]
        made = dict(made_by_rows())
        return Table(
            "About the two volumes",
            ("", "before", "after"),
            rows,
            f"Compared on {made['Made']} by Groundglass {__version__}.",
        )


def follow_up(before: Document, after: Document, warnings: tuple[str, ...] = ()) -> FollowUp:
    """Compare the findings in two volumes.

    Parameters
    ----------
    before, after
        The content of each ``findings.json``.
    warnings
        Known reasons why they are less comparable.

    Raises
    ------
    GroundglassError
        If one of them is not a chest CT volume.
    """
    for name, one in (("before", before), ("after", after)):
        if "both" not in one:
            raise GroundglassError(f"the study {name} contains pictures: only volumes can be followed up")
        if one["verdict"] == NOT_A_CHEST_CT:
            raise GroundglassError(
                f"the study {name} is not a chest CT ({one['reason']}): it cannot be followed up"
            )
    changes = {}
    for region in REGIONS:
        one, other = _figures(before, region), _figures(after, region)
        if one and other:
            changes[region] = {name: Change(one[name], other[name]) for name in one if name in other}
    return FollowUp(before, after, changes, [*warnings, *_differences(before, after)])


def _figures(found: Document, region: str) -> Mapping[str, float | None]:
    """A region's amounts by name; empty if the region is unknown."""
    return (found[region] if region in SIDES else found["zones"].get(region)) or {}


def _differences(before: Document, after: Document) -> list[str]:
    """Reasons why two volumes are less comparable, in sentences."""
    warnings = []
    for kind, name in (("segmenter", "segmenters"), ("bundle", "detectors")):
        one, other = _version(before, kind), _version(after, kind)
        if one != other:
            warnings.append(
                f"Different {name} were used, {one} before and {other} after: part of the change may be due "
                "to this. Run both studies with the same one."
            )
    if before["groundglass"] != after["groundglass"]:
        warnings.append(
            "Different versions of Groundglass were used, which may find different lungs and lesions."
        )
    one, other = (found["volume"]["spacing_mm"] for found in (before, after))
    if one is None or other is None:
        warnings.append("The spacing of one of the volumes is unknown, so volumes in ml cannot be compared.")
    elif max(one[0], other[0]) > SPACING_RATIO * min(one[0], other[0]):
        warnings.append(
            f"The slices are {one[0]:.3g} mm apart before and {other[0]:.3g} mm after: small lesions are "
            "not measured in the same way."
        )
    if before["volume"]["is_hu"] != after["volume"]["is_hu"]:
        warnings.append(
            "Only one of the volumes is in Hounsfield units: the segmenter saw different grey values."
        )
    known = [{region for region in REGIONS if _figures(found, region)} for found in (before, after)]
    if left_out := [region_name(region) for region in REGIONS if region in known[0] ^ known[1]]:
        warnings.append(
            f"Known for only one of the volumes and therefore not compared: {', '.join(left_out)}."
        )
    return [*warnings, *_own_warnings(before, after)]


def _own_warnings(before: Document, after: Document) -> list[str]:
    """The warnings about each volume, for example that a lung is missing or cut off, each once."""
    sides = {
        warning: [
            name for name, found in (("before", before), ("after", after)) if warning in found["warnings"]
        ]
        for warning in (*before["warnings"], *after["warnings"])
    }
    return [
        f"In {'both volumes' if len(names) == 2 else f'the volume {names[0]}'}: {warning}."
        for warning, names in sides.items()
    ]


def _version(found: Document, kind: str) -> str:
    return f"{found[kind]['name']}, version {found[kind]['graph_sha256'][:12]}"


def _described(found: Document) -> dict[str, str]:
    volume, spacing = found["volume"], found["volume"]["spacing_mm"]
    return {
        "Study": found["study"],
        "Patient": found["patient"] or "not stated in the files",
        "Verdict": f"{found['verdict']}, probability of COVID-19 {found['probability']:.2f}",
        "Severity": found["severity"] or "no band",
        "Slices": f"{volume['shape'][0]} of {volume['shape'][1]} x {volume['shape'][2]} pixels",
        "Spacing": "not known" if spacing is None else " x ".join(f"{mm:.3g}" for mm in spacing) + " mm",
        "Segmenter": _version(found, "segmenter"),
        "Detector": _version(found, "bundle"),
        "Groundglass": found["groundglass"],
    }


def _cells(one: Change, unit: str) -> tuple[str, str, str]:
    """Before, after and change, for an amount in ``ml`` or a share in ``%``."""
    factor, digits, change_unit = (1, 0, "ml") if unit == "ml" else (100, 1, "points")

    def shown(value: float | None, unit: str, sign: str = "") -> str:
        if value is None:
            return "not known"
        rounded = round(factor * value, digits) + 0.0  # -0.0 becomes 0.0
        return f"{rounded:{sign if rounded else ''}.{digits}f}{'' if unit == '%' else ' '}{unit}"

    return shown(one.before, unit), shown(one.after, unit), shown(one.change, change_unit, "+")


def _ml(volume: float | None) -> str:
    return "not known" if volume is None else f"{volume:.0f} ml"
