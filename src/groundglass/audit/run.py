"""The choice of an audit's checks, their outcomes, and the outcomes as data."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from groundglass import __version__
from groundglass.audit.check import (
    SEVERITIES,
    Check,
    CheckOutcome,
    Severity,
    checks_in,
    worst,
)
from groundglass.audit.material import Material, read_pictures
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.errors import GroundglassError, count_of
from groundglass.segment.notebook import figures_html
from groundglass.segment.segmenter import Segmenter


@dataclass(frozen=True)
class AuditOptions:
    """Options of an audit.

    Attributes
    ----------
    lungs
        Look for lungs with the shipped segmenter; otherwise the checks that need them do not apply.
    select, ignore
        Codes or prefixes of codes: run only the selected checks, all if empty, without the ignored ones.
    seed
        Seed of everything random.
    """

    lungs: bool = True
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, repr=False)
class Audit:
    """The subject of an audit and the outcomes.

    Attributes
    ----------
    title, about
        What was audited, and on what, in a few words.
    material
        The scans.
    outcomes
        The outcome of every check, by code.
    fingerprint
        The manifest's fingerprint.
    """

    title: str
    about: str
    material: Material
    outcomes: list[CheckOutcome]
    fingerprint: str

    @property
    def found(self) -> list[CheckOutcome]:
        """The findings, worst first."""
        found = [outcome for outcome in self.outcomes if outcome.status == "found"]
        return sorted(found, key=lambda outcome: SEVERITIES.index(outcome.severity_found))

    def headline(self) -> str:
        """The result in one sentence."""
        counts = Counter(outcome.severity_found for outcome in self.found)
        found = [
            f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
            for severity in SEVERITIES
            if counts[severity]
        ]
        states = Counter(outcome.status for outcome in self.outcomes)
        return (
            f"{', '.join(found) or 'Nothing was found'}; {count_of(states['passed'], 'check')} passed, "
            f"{states['not applicable']} not applicable."
        )

    def __repr__(self) -> str:
        return f"Audit({self.title!r}, {self.headline()!r})"

    def _repr_html_(self) -> str:
        rows = [
            (one.check.code, one.severity_found, one.check.title, one.result.message if one.result else "")
            for one in self.found
        ]
        return figures_html(f"{self.title} ({self.about}). {self.headline()}", rows, ())

    def fails(self, at: Severity) -> bool:
        """Whether anything as severe as ``at``, or worse, was found."""
        found = worst(self.outcomes)
        return found is not None and SEVERITIES.index(found) <= SEVERITIES.index(at)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the content of ``audit.json``."""
        return {
            "groundglass": __version__,
            "research_use": RESEARCH_USE,
            "audited": self.title,
            "on": self.about,
            "fingerprint": self.fingerprint,
            "seed": self.material.seed,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
        }


def chosen_checks(package: ModuleType, options: AuditOptions) -> list[type[Check[Any]]]:
    """The checks in a package that the options ask for.

    Raises
    ------
    GroundglassError
        If no check has a given prefix, or no check is left.
    """
    checks = checks_in(package)
    wanted = tuple(prefix.upper() for prefix in options.select)
    unwanted = tuple(prefix.upper() for prefix in options.ignore)
    for prefix in (*wanted, *unwanted):
        if not any(check.code.startswith(prefix) for check in checks):
            known = ", ".join(check.code for check in checks)
            raise GroundglassError(f"{prefix}: no check has this code here; there are {known}")
    chosen = [
        check
        for check in checks
        if (not wanted or check.code.startswith(wanted)) and not check.code.startswith(unwanted)
    ]
    if not chosen:
        raise GroundglassError("no check is left to run; ignore fewer with --ignore")
    return chosen


def read_material(
    name: str,
    manifest: pd.DataFrame,
    segmenter: Segmenter | None,
    seed: int = 0,
    watch: Callable[[Iterator[Any], int], Iterator[Any]] | None = None,
) -> Material:
    """Read all scans of a manifest once; ``watch`` passes them on and draws a progress bar.

    Raises
    ------
    GroundglassError
        If none can be read.
    """
    pictures, places, errors = read_pictures([Path(path) for path in manifest["path"]], segmenter, watch)
    if not places:
        raise GroundglassError(f"{name}: none of its {len(manifest)} files can be read; {errors[0]}")
    return Material(
        name,
        manifest.iloc[places].reset_index(drop=True),
        pictures,
        unreadable=tuple(errors),
        unread=manifest.drop(index=manifest.index[places]).reset_index(drop=True),
        with_lungs=segmenter is not None,
        seed=seed,
    )
