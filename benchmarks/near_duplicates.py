"""Near-duplicate search on planted copies: recall and precision for each change, and how time and memory grow.

Copies of slices, each changed in one way (crop, rescaling, JPEG, contrast, mirror, or all of them), are put
among the slices that they come from. The search sees only the pictures. Each size runs in a separate process
to measure its peak memory. Missing phantoms are made, 24 slices of each; 100,000 take half an hour.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common import machine
from groundglass.audit.material import small_picture
from groundglass.audit.near_duplicates import DuplicatePair, similar_pictures
from groundglass.data.datasets import load_dataset
from groundglass.data.registry import DATASETS
from groundglass.phantom import make_phantom, random_lesions
from groundglass.preprocess import Preprocessing
from groundglass.scan.read import read_scan
from groundglass.scan.scan import LUNG_WINDOW, apply_window

Picture = NDArray[np.uint8]
FIRST_SEED = 100_000
DISEASES = ("covid", "other", "none")


def crop(picture: Picture, generator: np.random.Generator) -> Picture:
    """75% to 95% of each side, anywhere."""
    height, width = (round(side * generator.uniform(0.75, 0.95)) for side in picture.shape)
    top = generator.integers(0, picture.shape[0] - height + 1)
    left = generator.integers(0, picture.shape[1] - width + 1)
    return picture[top : top + height, left : left + width]


def rescale(picture: Picture, generator: np.random.Generator) -> Picture:
    """40% to 80% of the size."""
    height, width = picture.shape
    factor = generator.uniform(0.4, 0.8)
    size = max(32, round(width * factor)), max(32, round(height * factor))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def recompress(picture: Picture, generator: np.random.Generator) -> Picture:
    """JPEG of quality 20 to 60."""
    _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(20, 61))])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE))


def contrast(picture: Picture, generator: np.random.Generator) -> Picture:
    """Gamma 0.6 to 1.7, contrast 0.7 to 1.3, brightness by up to a tenth."""
    grey = (picture / 255) ** generator.choice([0.6, 0.75, 1.35, 1.7])
    changed = grey * generator.uniform(0.7, 1.3) + generator.uniform(-0.1, 0.1)
    return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8)


def mirror(picture: Picture, _: np.random.Generator) -> Picture:
    """Left to right."""
    return np.ascontiguousarray(picture[:, ::-1])


def all_of_them(picture: Picture, generator: np.random.Generator) -> Picture:
    """One after the other."""
    for change in (crop, mirror, rescale, contrast, recompress):
        picture = change(picture, generator)
    return picture


CHANGES: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "crop": crop,
    "rescaled": rescale,
    "JPEG": recompress,
    "contrast": contrast,
    "mirror": mirror,
    "all of them": all_of_them,
}


def make_phantoms(folder: Path, count: int) -> list[Path]:
    """The first ``count`` slices of phantoms with increasing seeds, made if missing."""
    files = sorted(folder.rglob("*.png"), key=lambda file: file.name)
    seed = FIRST_SEED + len({file.parent for file in files})
    while len(files) < count:
        disease = DISEASES[seed % len(DISEASES)]
        phantom = make_phantom(seed, shape=(32, 128, 128), lesions=random_lesions(seed, disease))
        grey = np.rint(apply_window(phantom.scan.pixels, *LUNG_WINDOW) * 255).astype(np.uint8)
        place = folder / disease / str(seed)
        place.mkdir(parents=True, exist_ok=True)
        for number in np.flatnonzero((phantom.lungs > 0).mean(axis=(1, 2)) > 0.03):
            files.append(place / f"{seed}_{number:02d}.png")
            Image.fromarray(grey[number]).save(files[-1], compress_level=1)
        seed += 1
    return files[:count]


def read(path: Path) -> Picture:
    """A slice in 8-bit grey."""
    return Preprocessing().picture(read_scan(path))


def measure(files: list[Path], planted: int) -> dict[str, object]:
    """Search ``files`` with ``planted`` copies of each kind among them."""
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(lambda path: small_picture(read(path)), files))
    reading = time.perf_counter() - start
    generator = np.random.default_rng(0)
    truth: dict[int, tuple[int, str]] = {}
    for name, change in CHANGES.items():
        for place in generator.choice(len(files), planted, replace=False).tolist():
            truth[len(seen)] = (place, name)
            seen.append(small_picture(change(read(files[place]), generator)))
    grey = np.stack(seen)
    del seen
    start = time.perf_counter()
    twins = similar_pictures(grey)
    searching = time.perf_counter() - start
    return {
        "slices": len(files),
        "reading_s": reading,
        "searching_s": searching,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "changes": {name: score(name, truth, twins, files) for name in CHANGES},
        "others": sum(twin.second not in truth for twin in twins),
    }


def score(
    name: str, truth: dict[int, tuple[int, str]], twins: list[DuplicatePair], files: list[Path]
) -> dict[str, float]:
    """For copies of one kind: recall, and precision of the pairs that contain them."""
    copies = {copy: place for copy, (place, kind) in truth.items() if kind == name}
    pairs = [(twin.first, twin.second) for twin in twins if twin.second in copies and twin.first < len(files)]
    hits = {second for first, second in pairs if copies[second] == first}
    same_patient = [files[first].parent == files[copies[second]].parent for first, second in pairs]
    return {
        "recall": len(hits) / len(copies),
        "precision": len(hits) / max(1, len(pairs)),
        "same_series": float(np.mean(same_patient)) if pairs else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--phantoms", type=Path, default=Path("phantoms"), help="where they are or are written"
    )
    parser.add_argument("--data", default="", help="search a known dataset instead")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2500, 25_000, 100_000])
    parser.add_argument("--planted", type=int, default=300, help="copies of each kind")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if options.data in DATASETS:
            files = [Path(path) for path in load_dataset(options.data)["path"]][: options.one]
        else:
            files = make_phantoms(options.phantoms, options.one)
        print(json.dumps(measure(files, options.planted)))
        return
    print("\n".join(machine()))
    again = [sys.executable, __file__, "--planted", str(options.planted), "--data", options.data]
    for size in options.sizes:
        command = [*again, "--phantoms", str(options.phantoms), "--one", str(size)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(
            f"\n{found['slices']} slices: read in {found['reading_s']:.0f} s, searched in "
            f"{found['searching_s']:.0f} s, {found['peak_gb']:.1f} GB at most; {found['others']} further pairs"
        )
        print("| change | recall | precision | of the pairs, same series |\n|---|---|---|---|")
        for name, figures in found["changes"].items():
            print("| " + " | ".join([name, *(f"{value:.2f}" for value in figures.values())]) + " |")


if __name__ == "__main__":
    main()
