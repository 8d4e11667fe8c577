"""Which studies there are under some paths, and which series of each is asked."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundglass.errors import ScanError
from groundglass.files import write_text
from groundglass.scan.series import Listing, Series

KEY_FILE = ".key"
ALIKE_MM = 40.0
"""Series whose extents differ by less cover the same: the finer one is then taken."""
THICK_MM = 5.0
"""Slices further apart than this are taken only where there are no others."""


@dataclass(frozen=True)
class Study:
    """One examination of a patient.

    Attributes
    ----------
    name
        Names its folder and tells nothing of the patient.
    patient
        A pseudonym, "" where the files name no patient.
    series
        The one that is asked; None where none can be.
    others
        The rest, each with the reason why it is not asked.
    """

    name: str
    patient: str
    source: Path
    series: Series | None
    others: tuple[tuple[Series, str], ...] = ()

    def error(self) -> ScanError:
        """Why the study cannot be asked."""
        reasons = dict.fromkeys((series.problem, series.remedy) for series, _ in self.others)
        problems = "; ".join(problem for problem, _ in reasons)
        return ScanError(self.source, problems, next((remedy for _, remedy in reasons if remedy), ""))


def find_studies(listing: Listing, key: bytes) -> list[Study]:
    """The studies of a listing, in its order.

    Parameters
    ----------
    listing
        Whose series are sorted into studies; each NIfTI is a study of its own.
    key
        Pseudonyms follow from it: whoever does not have it cannot tell a patient by trying all ids.
    """
    together: dict[tuple[str, str], list[Series]] = {}
    for series in listing.series:
        study = (series.study, series.patient) if series.study else (str(series.source), series.patient)
        together.setdefault(study if series.kind == "dicom" else (str(series.source), ""), []).append(series)
    names: set[str] = set()
    return [_study(study, of_one, key, names) for study, of_one in together.items()]


def _study(study: tuple[str, str], of_one: Sequence[Series], key: bytes, names: set[str]) -> Study:
    usable = [series for series in of_one if series.usable]
    best = _best(usable) if usable else None
    first = best or of_one[0]
    others = tuple(
        (series, series.problem or "another series of the study covers it better or finer")
        for series in of_one
        if series is not best
    )
    return Study(
        name=_unique(_name(first, study, key), names),
        patient=f"patient-{_code(first.patient, key)}" if first.patient else "",
        source=first.source,
        series=best,
        others=others,
    )


def _best(usable: Iterable[Series]) -> Series:
    """Of series with slices close enough, the one that covers most; of those that cover the same, the finest."""
    candidates = list(usable)
    fine = [series for series in candidates if series.spacing and series.spacing[0] <= THICK_MM]
    candidates = fine or candidates
    widest = max(_extent(series) for series in candidates)
    alike = [series for series in candidates if _extent(series) >= widest - ALIKE_MM]
    return max(alike, key=lambda series: (series.slices, -len(series.warnings)))


def _extent(series: Series) -> float:
    return series.slices * series.spacing[0] if series.spacing else 0.0


def _name(series: Series, study: tuple[str, str], key: bytes) -> str:
    if series.kind == "nifti":
        return series.source.name.removesuffix(".gz").removesuffix(".nii") or "volume"
    return f"study-{_code('/'.join(study), key)}"


def _code(text: str, key: bytes) -> str:
    return hmac.new(key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:10]


def _unique(name: str, taken: set[str]) -> str:
    unique, number = name, 1
    while unique.lower() in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique.lower())
    return unique


def key_of(folder: Path | None) -> bytes:
    """The key of a results folder, made where it has none; a fresh one without a folder."""
    if folder is None:
        return secrets.token_bytes(16)
    path = folder / KEY_FILE
    if not path.exists():
        write_text(path, secrets.token_hex(16) + "\n")
        path.chmod(0o600)
    return path.read_text(encoding="ascii").strip().encode()
