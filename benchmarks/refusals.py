"""How many pictures that are not axial chest CT the segmenter refuses, and how many chest slices it refuses.

``python benchmarks/refusals.py`` makes the pictures (see refusal_pictures.py), adds planes of real volumes and
chest slices where ``GROUNDGLASS_MIRROR`` names a folder that has them, and prints a table. Half of the kinds choose
thresholds; the other half, marked "held out", must not be looked at while choosing.

``--fit FOLDER`` fits the model of groundglass.segment.chest on the choosing kinds and the chest slices, and
writes it into the segmenter's bundle in that folder: do this after retraining the segmenter.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, cycle
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from groundglass.data.folders import mirror_folder
from groundglass.scan.find import find_series
from groundglass.scan.image import SUFFIXES
from groundglass.scan.read import read_scan
from groundglass.scan.scan import Scan
from groundglass.segment.chest import features
from groundglass.segment.masks import segmentation
from groundglass.segment.segmenter import Segmenter
from refusal_fit import fit
from refusal_pictures import KINDS, WINDOWS, Picture, projection, windowed

COUNT = 12
"""Pictures of each kind."""
CHEST = (
    "covid-ct",
    "sarscov2-ct",
    "covid19-ct-seg",
    "medseg",
    "radiopaedia-volumes",
    "emphysema-slices",
    "iq-othnccd",
)
LEAST_LUNGS = 0.003
"""Slices whose lungs cover at least this share of the picture count as chest, if the area is known; as in the
segmenter."""
NO_LUNGS = 0.0005
"""Slices of a volume with at most this share of lung are above or below the lungs."""
SERIES = "MIDRC-RICORD-1A-419639-001012"
BELOW, ABOVE = 18, 110
"""Slices of that series without lungs: before the first number, and from the second on."""
HELD_OUT = {
    "shoulders, drawn CT": False,
    "pelvis, drawn CT": True,
    "abdomen, drawn CT": False,
    "head, drawn CT": True,
    "coronal phantom": False,
    "sagittal phantom": True,
    "real abdomen": False,
    "real neck and shoulders": True,
    "coronal, real": True,
    "sagittal, real": False,
    "radiographs of real volumes": True,
}


def held_out(kind: str) -> bool:
    """Whether a kind is only for reporting; kinds that are not assigned by hand alternate."""
    others = [name for name in KINDS if name not in HELD_OUT]
    return HELD_OUT[kind] if kind in HELD_OUT else kind in others and others.index(kind) % 2 == 1


def strangers(count: int, seed: int) -> Iterator[tuple[str, str, Scan]]:
    """Pictures that are not axial chest CT: kind, name, and the slice."""
    for kind, make in KINDS.items():
        random = np.random.default_rng((crc32(kind.encode()), seed))
        for number, picture in enumerate(make(random, count)):
            yield kind, f"{kind} {number}", grey_scan(picture)
    if mirror_folder() is not None:
        for number, (kind, picture) in enumerate(real_planes()):
            yield kind, f"{kind} {number}", grey_scan(picture)


def grey_scan(picture: Picture) -> Scan:
    """A picture as read from a PNG."""
    return Scan(picture.astype(np.float32) / np.float32(255), is_hu=False, scan_id="picture")


def real_planes() -> Iterator[tuple[str, Picture]]:
    """Slices above and below the lungs, other planes and projections of real volumes."""
    windows = cycle(WINDOWS)
    for volume, lungs in volumes():
        for number in np.flatnonzero(lungs <= NO_LUNGS):
            kind = "real abdomen" if number < len(volume) / 2 else "real neck and shoulders"
            for _ in range(2 if volume.dtype == np.int16 else 1):
                yield kind, _shown(volume[number], next(windows))
        for axis, kind in ((1, "coronal, real"), (2, "sagittal, real")):
            for place in (0.35, 0.45, 0.55, 0.65):
                plane = volume[::-1].take(int(place * volume.shape[axis]), axis=axis)
                yield kind, cv2.resize(_shown(plane, next(windows)), (320, 320))
            hu = volume if volume.dtype == np.int16 else volume.astype(np.float32) / 255 * 1500 - 1350
            yield "radiographs of real volumes", projection(hu[::-1], axis)


def _shown(plane: NDArray[np.int16], window: tuple[float, float]) -> Picture:
    return windowed(plane.astype(np.float32), window) if plane.dtype == np.int16 else plane


def volumes() -> Iterator[tuple[NDArray[np.int16], NDArray[np.float64]]]:
    """Whole volumes from the feet to the head, int16 HU or uint8 grey, and each slice's share of lung."""
    mirror = mirror_folder()
    assert mirror is not None
    folder = mirror / "radiopaedia-volumes"
    if folder.is_dir():
        for _, slices in pd.read_csv(folder / "slices.csv").groupby("volume"):
            files = [next((folder / "ct").glob(f"{name}.*")) for name in slices["file"]]
            planes = [np.asarray(Image.open(file).convert("L")) for file in files]
            if len({plane.shape for plane in planes}) == 1:
                yield np.stack(planes), slices["lung_area"].to_numpy()
    if (mirror / "dicom" / SERIES).is_dir():
        series = find_series([str(mirror / "dicom" / SERIES)]).series[0].load()
        hu = np.stack([series.slice(number).pixels for number in range(series.shape[0])]).astype(np.int16)
        lungs = np.ones(len(hu))
        lungs[:BELOW] = lungs[ABOVE:] = 0
        yield hu, lungs


def chests() -> Iterator[tuple[str, str, Scan]]:
    """Slices with lungs from the available datasets: dataset, file, and the slice."""
    mirror = mirror_folder()
    for name in CHEST if mirror is not None else ():
        folder = mirror / name
        table = folder / "slices.csv"
        areas = pd.read_csv(table, dtype={"file": str}) if table.is_file() else pd.DataFrame()
        known = dict(zip(areas["file"], areas["lung_area"], strict=True)) if "lung_area" in areas else {}
        within = folder / "ct" if (folder / "ct").is_dir() else folder
        for path in sorted(file for file in within.rglob("*") if file.suffix.lower() in SUFFIXES):
            if known.get(path.stem, 1) >= LEAST_LUNGS:
                yield name, str(path), read_scan(path)


def in_windows() -> Iterator[tuple[str, str, Scan]]:
    """Chest slices in every window: from a real series, if available, and from phantoms."""
    from groundglass.phantom import Lesion
    from groundglass.phantom.phantom import make_phantom

    for volume, _ in volumes() if mirror_folder() is not None else ():
        if volume.dtype == np.int16:
            for number in range(BELOW + 8, ABOVE - 8, 5):
                for window in WINDOWS:
                    yield (
                        "a series in all windows",
                        f"{number} {window}",
                        grey_scan(_shown(volume[number], window)),
                    )
    for seed in range(100, 108):
        phantom = make_phantom(seed, shape=(12, 256, 256), lesions=[Lesion("ground glass", 60)] * (seed % 2))
        for number in np.flatnonzero((phantom.lungs > 0).mean(axis=(1, 2)) > 0.01):
            for window in WINDOWS:
                picture = windowed(phantom.scan.pixels[number], window)
                yield "phantoms in all windows", f"{seed} {number} {window}", grey_scan(picture)


def measured(
    segmenter: Segmenter, group: str, source: Iterator[tuple[str, str, Scan]]
) -> Iterator[dict[str, Any]]:
    """For each slice its group, kind and name, whether it is refused, and the features of its apparent lungs."""
    preprocessing, rules = segmenter.bundle.facts.preprocessing, segmenter.bundle.facts.post_processing

    def inputs() -> Iterator[tuple[Any, NDArray[np.float32]]]:
        for kind, name, scan in source:
            grey8 = preprocessing.grey8(scan)
            yield (kind, name, scan, grey8), preprocessing.model_input(grey8[None])[0]

    for (kind, name, scan, grey8), outputs in segmenter._engine.stream(inputs()):
        found = segmenter.finish(outputs[0], grey8, scan)
        box = preprocessing.box(*scan.pixels.shape)
        lungs, lesions = outputs[0][0][box.slices], outputs[0][1:].sum(axis=0)[box.slices]
        plain = cv2.resize(preprocessing.grey(scan), (box.width, box.height), interpolation=cv2.INTER_AREA)
        grey = grey8[box.slices].astype(np.float32) / np.float32(255)
        masks = segmentation(lungs, lesions, grey, rules.model_copy(update={"chest": None}))
        row = {"group": group, "kind": kind, "name": name, "wrong": found.found == (group == "strangers")}
        if (masks.lungs > 0).mean() >= rules.least_lungs:
            row |= features(masks.lungs, masks.lesions, np.maximum(lungs, lesions), plain)
        if row["wrong"] and group == "chests":
            print(f"wrongly refused: {name}: {found.problem}")
        yield row


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--bundle", help="segmenter [the shipped one]")
    options.add_argument("--count", type=int, default=COUNT, help="pictures of each drawn kind [%(default)s]")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--fit", type=Path, help="fit the model, and write it into the bundle in this folder"
    )
    arguments = options.parse_args()
    segmenter = Segmenter.load(arguments.fit or arguments.bundle)
    sources = {
        "strangers": strangers(arguments.count, arguments.seed),
        "chests": chain(chests(), in_windows()),
    }
    rows = pd.DataFrame(
        row for group, source in sources.items() for row in measured(segmenter, group, source)
    )
    report(rows)
    if arguments.fit:
        strange = rows["group"] == "strangers"
        chest = fit(rows[~strange], rows[strange & ~rows["kind"].map(held_out).astype(bool)])
        facts = segmenter.bundle.facts
        rules = facts.post_processing.model_copy(update={"chest": chest})
        bundle = replace(segmenter.bundle, facts=facts.model_copy(update={"post_processing": rules}))
        bundle.write(arguments.fit)
        print("the model was written; run this again without --fit for its figures")


def report(rows: pd.DataFrame) -> None:
    """Print how many pictures are classified wrongly, by kind, and for each half of the kinds."""
    strange = rows[rows["group"] == "strangers"]
    for half, part in strange.groupby(strange["kind"].map(held_out)):
        print(f"\n{'held-out' if half else 'choosing'} kinds, not refused")
        for kind, some in part.groupby("kind", sort=False):
            print(f"  {kind:34} {some['wrong'].sum():4} of {len(some):4}")
        print(f"  {'all':34} {part['wrong'].sum():4} of {len(part):4}  ({part['wrong'].mean():.1%})")
    print("\nchest slices, wrongly refused")
    for name, some in rows[rows["group"] == "chests"].groupby("kind", sort=False):
        print(f"  {name:34} {some['wrong'].sum():4} of {len(some):4}  ({some['wrong'].mean():.2%})")


if __name__ == "__main__":
    main()
