"""GG210: whether the detector was trained or chosen on slices that it is now tested on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.trial import Trial
from groundglass.bundle.evaluation import Estimate
from groundglass.bundle.fingerprints import (
    ALIKE,
    PARTS,
    Fingerprints,
    file_print,
    mirrored,
    nearest,
    picture_print,
)

FILE, PICTURE, MIRRORED = "the same file", "the same picture", "the same picture mirrored"
"""How a slice was recognised, most reliable first."""


class SeenInTraining(Check[Trial]):
    """Recognises slices of the training and validation sets by the bundle's fingerprints; any match is an
    error."""

    code = "GG210"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if the bundle has no fingerprints."""
        stored = subject.detector.bundle.fingerprints
        known = None if stored is None else stored.trained()
        if known is None:
            raise NotApplicable(
                "There are no fingerprints of its training slices: it has no bundle, or the bundle was "
                "exported by an earlier version. Exporting its run again adds them."
            )
        paths = [str(path) for path in subject.material.paths]
        how, where, apart = _recognised(paths, subject.material.pictures.grey, known)
        rows = [
            (
                paths[row],
                how[row],
                "validation" if known.parts[where[row]] == PARTS.index("val") else "training",
                apart[row],
            )
            for row in sorted(np.flatnonzero(how != ""), key=lambda row: (apart[row], row))
        ]
        parts = [part for _, _, part, _ in rows]
        return self.result(
            "error" if rows else None,
            Estimate(value=float(len(rows))),
            files=[path for path, *_ in rows],
            rows=rows,
            seen=len(rows),
            tested=len(paths),
            known=len(known),
            kinds={kind: (how == kind).sum() for kind in (FILE, PICTURE, MIRRORED)},
            parts={part: parts.count(part) for part in ("training", "validation")},
            alike=ALIKE,
        )


def _recognised(
    paths: list[str], grey: NDArray[np.uint8], known: Fingerprints
) -> tuple[NDArray[np.str_], NDArray[np.intp], NDArray[np.intp]]:
    """How each slice is recognised, "" if it is not, its index in ``known``, and how many bits differ."""
    pictures = np.array([picture_print(picture) for picture in grey])
    apart, where = nearest(pictures, known.pictures)
    turned, elsewhere = nearest(mirrored(pictures), known.pictures)
    how = np.where(apart <= ALIKE, PICTURE, np.where(turned <= ALIKE, MIRRORED, ""))
    where, apart = np.where(how == MIRRORED, elsewhere, where), np.where(how == MIRRORED, turned, apart)
    places = {one.tobytes(): place for place, one in enumerate(known.files)}
    for row, path in enumerate(paths):
        place = places.get(file_print(Path(path)).tobytes())
        if place is not None:
            how[row], where[row], apart[row] = FILE, place, 0
    return how, where, apart
