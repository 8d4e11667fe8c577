"""The lesion share on phantoms, whose true share is known: its error, and whether it rises with the truth.

Each phantom person is made with the same kinds of lesions at several sizes. The share is that of the whole
volume, over the slices in which the lungs cover at least 3% of the picture. Phantoms are much simpler than
patients: this shows that the share measures what it should, not its accuracy in patients.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from common import machine, show
from groundglass.phantom import Lesion, make_phantom
from groundglass.scan.scan import Scan
from groundglass.segment.segmenter import Segmenter

SHAPE = (24, 256, 256)
SIZES_ML = (0.0, 15.0, 40.0, 90.0, 180.0)
"""Volumes of each of a person's lesions, in ml."""
LEAST_LUNG = 0.03


class Measured(NamedTuple):
    """One volume: the person, and the true and found lesion share of the lungs."""

    person: int
    true: float
    found: float
    lung_dice: float


def lesions_of(person: int, volume_ml: float) -> list[Lesion]:
    """Four lesions of COVID-19's kinds, two in each lung; none at size 0."""
    if not volume_ml:
        return []
    kinds = ("ground glass", "ground glass", "consolidation", "ground glass")
    first = person % len(kinds)
    turned = [*kinds[first:], *kinds[:first]]
    sides = ("right", "left", "right", "left")
    return [Lesion(kind, volume_ml, side=side) for kind, side in zip(turned, sides, strict=True)]  # type: ignore[arg-type]


def measure(segmenter: Segmenter, persons: int) -> Iterator[Measured]:
    """Every person at every size."""
    for person in range(persons):
        for volume_ml in SIZES_ML:
            phantom = make_phantom(person, shape=SHAPE, lesions=lesions_of(person, volume_ml))
            chosen = np.flatnonzero((phantom.lungs > 0).mean(axis=(1, 2)) >= LEAST_LUNG)
            scans = [Scan(phantom.scan.pixels[index], True, str(index)) for index in chosen]
            found = [segmentation for _, segmentation in segmenter.segment_scans(scans)]
            lungs = np.stack([one.lungs > 0 for one in found])
            lesions = np.stack([one.lesions for one in found])
            true_lungs, true_lesions = phantom.lungs[chosen] > 0, phantom.lesions[chosen] > 0
            common = np.count_nonzero(lungs & true_lungs)
            yield Measured(
                person,
                true_lesions.sum() / true_lungs.sum(),
                lesions.sum() / max(1, lungs.sum()),
                2 * common / (lungs.sum() + true_lungs.sum()),
            )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--bundle", help="a segmenter's name, folder or zip, or a run [the shipped one]")
    options.add_argument("--persons", type=int, default=8, help="phantom persons [%(default)s]")
    options.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    wanted = options.parse_args()
    segmenter = Segmenter.load(Path(wanted.bundle) if wanted.bundle else None)
    rows = list(measure(segmenter, wanted.persons))
    true, found = np.array([row.true for row in rows]), np.array([row.found for row in rows])
    table = []
    for index, size in enumerate(SIZES_ML):
        at = slice(index, None, len(SIZES_ML))
        table.append(
            (
                f"4 x {size:g} ml",
                f"{true[at].mean():.1%}",
                f"{found[at].mean():.1%}",
                f"{np.abs(found[at] - true[at]).mean():.1%}",
                f"{np.mean([row.lung_dice for row in rows[at]]):.3f}",
            )
        )
    header = ("lesions", "true share", "found share", "mean absolute error", "lung Dice")
    show("Lesion share on phantoms", header, table, markdown=wanted.markdown)
    rising = [
        bool(np.all(np.diff([row.found for row in rows if row.person == person]) > 0))
        for person in range(wanted.persons)
    ]
    print(f"Mean absolute error of the share: {np.abs(found - true).mean():.2%} of the lungs")
    print(f"Spearman correlation over all volumes: {spearmanr(true, found).statistic:.3f}")
    print(f"Persons in whom the found share rises with every size: {sum(rising)} of {len(rising)}")
    print("\n".join(machine()))


if __name__ == "__main__":
    main()
