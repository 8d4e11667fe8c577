"""The studies under some paths, and the series of each study that is used."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from groundglass.errors import GroundglassError, ScanError
from groundglass.files import reason_of
from groundglass.scan.volume import Listing, Series

KEY_FILE = ".key"
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
CHEST_MM = 320.0
ENOUGH = 0.7
"""Share of the coverage of the largest series that a finer one needs in order to be preferred."""
ALIKE_MM = 40.0
"""Series whose extents differ by less than this have the same coverage: the finer one is chosen."""
THICK_MM = 5.0
"""Series with slices further apart than this are chosen only if there are no others."""


@dataclass(frozen=True)
class Study:
    """One examination of a patient.

    Attributes
    ----------
    name
        The name of its folder; it reveals nothing about the patient.
    patient
        A pseudonym, "" if the files name no patient.
    series
        The series that is used; None if none is usable.
    others
        The other series, each with the reason for not using it.
    """

    name: str
    patient: str
    source: Path
    series: Series | None
    others: tuple[tuple[Series, str], ...] = ()

    @property
    def files(self) -> frozenset[Path]:
        """The files of all its series."""
        used = () if self.series is None else (self.series,)
        return frozenset().union(*(series.files for series in (*used, *(one for one, _ in self.others))))

    def fetched(self, key: bytes) -> "Study":
        """The study with its series, for one that is not here yet; others are returned as they are.

        Raises
        ------
        ScanError
            If it cannot be fetched.
        """
        if self.series is None or self.series.fetch is None:
            return self
        patient, uid = self.series.patient, self.series.study
        series = tuple(replace(one, patient=patient, study=uid) for one in self.series.fetch())
        (study,) = find_studies(Listing(series), key)
        return replace(study, name=self.name, source=self.source)

    def error(self) -> ScanError:
        """Why there is no answer for the study."""
        reasons = dict.fromkeys((series.problem, series.remedy) for series, _ in self.others)
        problems = "; ".join(problem for problem, _ in reasons)
        return ScanError(self.source, problems, next((remedy for _, remedy in reasons if remedy), ""))


def find_studies(listing: Listing, key: bytes, *, coded: bool = False) -> list[Study]:
    """The studies of a listing, in its order.

    Parameters
    ----------
    listing
        The listing whose series are sorted into studies; each NIfTI file is a study of its own.
    key
        The key that pseudonyms are derived from; without it, nobody can identify a patient by trying all ids.
    coded
        Also name NIfTI files by a code alone; otherwise the name includes the file's name.
    """
    together: dict[tuple[str, str], list[Series]] = {}
    for series in listing.series:
        together.setdefault(series.examination, []).append(series)
    names: set[str] = set()
    return [_study(own, of_one, key, names, coded) for own, of_one in together.items()]


def _study(own: tuple[str, str], of_one: Sequence[Series], key: bytes, names: set[str], coded: bool) -> Study:
    best = _best([series for series in of_one if series.usable])
    first = best or of_one[0]
    others = tuple(
        (series, series.problem or "another series covers the chest more completely or in finer slices")
        for series in of_one
        if series is not best
    )
    return Study(
        name=_unique(_name(first, own, key, coded), names),
        patient=f"patient-{_code(first.patient, key)}" if first.patient else "",
        source=first.source,
        series=best,
        others=others,
    )


def _best(usable: Sequence[Series]) -> Series | None:
    """The series to use.

    Among the series that cover enough of the chest (with fine slices, if any do), those with the largest
    coverage are kept, and of these the one with the most slices is used.
    """
    if not usable:
        return None
    enough = ENOUGH * max(map(_covered, usable))
    candidates = [series for series in usable if _covered(series) >= enough]
    fine = [series for series in candidates if series.spacing and series.spacing[0] <= THICK_MM]
    candidates = fine or candidates
    widest = max(map(_covered, candidates))
    alike = [series for series in candidates if _covered(series) >= widest - ALIKE_MM]
    return max(alike, key=lambda series: (series.slices, -len(series.warnings)))


def _covered(series: Series) -> float:
    """The coverage of the chest by a series, in mm; anything beyond is neck and abdomen."""
    return min(CHEST_MM, series.slices * series.spacing[0]) if series.spacing else 0.0


def _name(series: Series, own: tuple[str, str], key: bytes, coded: bool) -> str:
    """A name for a folder; for NIfTI, the file's name and a code of its path, because many files have the
    same name."""
    if series.kind == "dicom" or coded:
        return f"study-{_code('/'.join(own), key)}"
    stem = series.source.name.lower().removesuffix(".gz").removesuffix(".nii")
    clean = "".join(letter if letter.isalnum() else "-" for letter in stem).strip("-")
    return f"{clean[:40] or 'volume'}-{_code(own[0], key)[:6]}"


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
    """The key of a results folder, created if necessary; a new key if there is no folder.

    Raises
    ------
    GroundglassError
        If the key is damaged or cannot be read or written.
    """
    if folder is None:
        return secrets.token_bytes(16)
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), os.fdopen(os.open(path, NEW_FILE, 0o600), "w") as handle:
            handle.write(secrets.token_hex(16))
        key = path.read_bytes()
    except OSError as error:
        raise GroundglassError(f"{path}: cannot be read or written ({reason_of(error)})") from error
    if not re.fullmatch(rb"[0-9a-f]{32}", key):
        raise GroundglassError(f"{path}: is damaged: delete it, and new pseudonyms will be made")
    return key
