"""``groundglass audit``: make the checks of a dataset, or of a detector on one, and write what came out."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from groundglass import __version__
from groundglass.audit import data as data_checks
from groundglass.audit import detector as detector_checks
from groundglass.audit.check import SEVERITIES, Check, CheckOutcome, Severity, checks_in, run_checks, worst
from groundglass.audit.fix import Change, changes_table, fix
from groundglass.audit.material import Material, read_pictures
from groundglass.audit.trial import Trial
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.commands.audit_report import write_audit_report
from groundglass.commands.evaluate import choose_rows, predict_rows
from groundglass.commands.progress import track
from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import fingerprint, write_manifest
from groundglass.data.registry import DATASETS
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.evaluate.predictions import read_predictions
from groundglass.files import replacing, write_json
from groundglass.labels import POSITIVE
from groundglass.segment.segmenter import Segmenter

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How an audit is made.

    Attributes
    ----------
    lungs
        Look for lungs with the shipped segmenter; without, the checks that need them do not apply.
    select, ignore
        Codes or beginnings of codes: only these checks, all where it is empty, and none of those.
    seed
        Of everything that is drawn.
    """

    lungs: bool = True
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Audit:
    """What was looked at and what came of it.

    Attributes
    ----------
    title, about
        What was audited, and in one sentence on what.
    material
        The scans.
    outcomes
        Of every check, by code.
    fingerprint
        Of the manifest.
    """

    title: str
    about: str
    material: Material
    outcomes: list[CheckOutcome]
    fingerprint: str

    @property
    def found(self) -> list[CheckOutcome]:
        """What was found, the worst first."""
        found = [outcome for outcome in self.outcomes if outcome.status == "found"]
        return sorted(found, key=lambda outcome: SEVERITIES.index(severity_found(outcome)))

    def headline(self) -> str:
        """What came out, in one sentence."""
        counts = Counter(severity_found(outcome) for outcome in self.found)
        told = [
            f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
            for severity in SEVERITIES
            if counts[severity]
        ]
        states = Counter(outcome.status for outcome in self.outcomes)
        return (
            f"{', '.join(told) or 'Nothing was found'}; {states['passed']} checks passed, "
            f"{states['not applicable']} do not apply."
        )


def severity_found(outcome: CheckOutcome) -> Severity:
    """The severity of what a check found; ValueError where it found nothing."""
    if outcome.result is None or outcome.result.severity is None:
        raise ValueError(f"{outcome.check.code} found nothing")
    return outcome.result.severity


def fails(outcomes: Sequence[CheckOutcome], at: Severity) -> bool:
    """Whether anything as severe as ``at``, or worse, was found."""
    found = worst(outcomes)
    return found is not None and SEVERITIES.index(found) <= SEVERITIES.index(at)


def chosen_checks(checks: Sequence[type[Check[Any]]], options: Options) -> list[type[Check[Any]]]:
    """Those of the checks that the options ask for.

    Raises
    ------
    GroundglassError
        If a prefix is that of no check, or none is left.
    """
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
        raise GroundglassError("no check is left; name fewer with --ignore")
    return chosen


def audit_dataset(dataset: str, options: Options | None = None, tell: Tell | None = None) -> Audit:
    """Make the checks of labelled scans.

    Parameters
    ----------
    dataset
        A known dataset's name, a manifest CSV, or a folder of one subfolder per class.
    options
        How; by default all checks, with lungs.
    tell
        Called with what is done next.

    Raises
    ------
    GroundglassError
        If there is no such dataset, none of its files can be read, or the options choose no check.
    """
    options = options or Options()
    checks = chosen_checks(checks_in(data_checks), options)
    manifest = load_dataset(dataset)
    segmenter = Segmenter.load() if options.lungs else None
    name = dataset if dataset in DATASETS else Path(dataset).name
    material = make_material(name, manifest, segmenter, options.seed)
    outcomes = run_checks(checks, material, tell)
    positive = int(material.truth.sum())
    about = f"{len(material.truth)} slices, {positive} {POSITIVE}"
    return Audit(f"Audit of {name}", about, material, outcomes, fingerprint(material.manifest))


def audit_detector(
    detector: Detector,
    dataset: str,
    folder: Path,
    options: Options | None = None,
    *,
    part: str | None = None,
    tell: Tell | None = None,
) -> Audit:
    """Make the checks of a detector on labelled scans; its answers to them become ``folder/predictions.csv``.

    Parameters
    ----------
    detector
        The detector.
    dataset, part
        What it is tried on; see :func:`groundglass.commands.evaluate.choose_rows`.
    folder
        Where its answers go.
    options, tell
        As in :func:`audit_dataset`.

    Raises
    ------
    GroundglassError
        If there is no such dataset or part, none of its files can be read, or the options choose no check.
    """
    options = options or Options()
    checks = chosen_checks(checks_in(detector_checks), options)
    facts = detector.bundle.facts
    labelled = choose_rows(facts, detector.bundle.recipe, dataset, part)
    segmenter = Segmenter.load() if options.lungs else None
    material = make_material(labelled.name, labelled.rows, segmenter, options.seed)
    predict_rows(detector, material.manifest, folder / "predictions.csv", labelled.name)
    trial = Trial(
        detector,
        material,
        read_predictions(folder / "predictions.csv"),
        segmenter,
        labelled.external,
        labelled.part,
    )
    outcomes = run_checks(checks, trial, tell)
    kind = "a set of another source" if labelled.external else f"the {labelled.part} part of its own dataset"
    about = f"{len(material.truth)} slices of {labelled.name}, {kind}"
    return Audit(f"Audit of {facts.name} on {labelled.name}", about, material, outcomes, labelled.fingerprint)


def make_material(name: str, manifest: pd.DataFrame, segmenter: Segmenter | None, seed: int = 0) -> Material:
    """Read all scans of a manifest once, with a progress bar.

    Raises
    ------
    GroundglassError
        If none can be read.
    """

    def watch(answers: Iterator[Any], total: int) -> Iterator[Any]:
        return track(answers, "Reading slices", total)

    looks, places, errors = read_pictures([Path(path) for path in manifest["path"]], segmenter, watch)
    if not places:
        raise GroundglassError(f"{name}: none of its {len(manifest)} files can be read; {errors[0]}")
    read = manifest.iloc[places].reset_index(drop=True)
    unread = manifest.drop(index=manifest.index[places]).reset_index(drop=True)
    return Material(
        name,
        read,
        looks,
        unreadable=tuple(errors),
        unread=unread,
        with_lungs=segmenter is not None,
        seed=seed,
    )


def write_audit(audit: Audit, folder: Path) -> Path:
    """Write ``audit.json``, with all outcomes, and ``report.html``; returns the report's path."""
    document = {
        "groundglass": __version__,
        "research_use": RESEARCH_USE,
        "audited": audit.title,
        "on": audit.about,
        "fingerprint": audit.fingerprint,
        "seed": audit.material.seed,
        "outcomes": [outcome.to_dict() for outcome in audit.outcomes],
    }
    write_json(folder / "audit.json", document)
    write_audit_report(audit.title, f"{audit.headline()} {audit.about}.", audit.found, audit.outcomes, folder)
    return folder / "report.html"


def write_findings(audit: Audit, path: Path) -> None:
    """Write what was found as a JSON list, the worst first."""
    write_json(path, [outcome.to_dict() for outcome in audit.found])


def write_fixed(audit: Audit, path: Path) -> list[Change]:
    """Write a manifest without the duplicates, conflicts and leaks, and beside it the list of changes.

    The list is ``NAME.changes.csv``, where the manifest is ``NAME.csv``.

    Raises
    ------
    GroundglassError
        If a class or a part would be left empty, or a file cannot be written.
    """
    manifest, changes = fix(audit.material)
    write_manifest(manifest, path)
    with replacing(path.with_suffix(".changes.csv")) as handle:
        changes_table(changes).to_csv(handle, index=False, lineterminator="\n")
    return changes
