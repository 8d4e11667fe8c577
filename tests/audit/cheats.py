"""Handmade detectors that cheat or do not, and phantoms to try them on."""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from groundglass import __version__
from groundglass.audit.material import Material, read_pictures
from groundglass.audit.trial import Trial
from groundglass.bundle.facts import Choice, Part, TrainingFacts
from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.detect.detector import Detector
from groundglass.detect.findings import labelled_predictions
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.phantom import make_phantom, random_lesions, write_phantom
from groundglass.preprocess import Preprocessing
from groundglass.scan.read import read_scan
from groundglass.segment.segmenter import Segmenter
from segmenter_stub import threshold_segmenter

SIDE, CELLS = 96, 12
PERSONS = 6
BORDER = 0.06
GREYS = {POSITIVE: 0.8, NEGATIVE: 0.2}

GREY = "seen = Identity(images)"
GROUND_GLASS = """
  above = Sub(images, low)
  below = Sub(high, images)
  rising = Mul(above, steep)
  falling = Mul(below, steep)
  no_less = Sigmoid(rising)
  no_more = Sigmoid(falling)
  band = Mul(no_less, no_more)
  inverse = Neg(band)
  widened = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(inverse)
  seen = Neg(widened)
"""
"""Middle grey without thin structures, such as the blurred edge of a lung."""
GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
by_hand (float[batch, 1, height, width] images) => (float[batch] logits, float[batch, rows, columns] evidence)
<float low = {{0.5}}, float high = {{0.75}}, float steep = {{100}}>
{{
  {seen}
  weighted = Mul(seen, weights)
  placed = Add(weighted, offset)
  pooled = AveragePool<kernel_shape = [{cell}, {cell}], strides = [{cell}, {cell}]>(placed)
  sums = Mul(pooled, cell_size)
  added = Squeeze(sums, channel)
  logits = ReduceSum<keepdims = 0>(added, places)
  {shown}
}}
"""


def border_detector(folder: Path, *, gain: float = 20.0) -> Detector:
    """A cheat: its logit is ``gain`` times the excess of the border ring's brightness over 0.5."""
    ring = ring_of((SIDE, SIDE))
    weights = gain * ring / ring.sum()
    return _detector(folder, GREY, weights, -0.5 * weights, "evidence = Identity(added)")


def lung_detector(folder: Path, *, gain: float = 4000.0, explains: bool = True) -> Detector:
    """An honest detector: its logit grows with the area of ground glass in the middle of the slice.

    Without ``explains`` its heatmap is hot where it saw nothing.
    """
    middle = np.zeros((SIDE, SIDE), dtype=np.float32)
    middle[SIDE // 5 : -SIDE // 5, SIDE // 6 : -SIDE // 6] = 1
    offset = np.full((SIDE, SIDE), -2.0 / SIDE**2, dtype=np.float32)
    shown = "Identity" if explains else "Neg"
    return _detector(folder, GROUND_GLASS, gain * middle / SIDE**2, offset, f"evidence = {shown}(added)")


def ring_of(shape: tuple[int, int], share: float = BORDER) -> NDArray[np.bool_]:
    """The border of a picture, as wide as a share of its shorter side."""
    width = round(share * min(shape))
    ring = np.ones(shape, dtype=bool)
    ring[width:-width, width:-width] = False
    return ring


def plant_border(
    manifest: pd.DataFrame, folder: Path, *, greys: Mapping[str, float] = GREYS, share: float = BORDER
) -> pd.DataFrame:
    """Write copies of a manifest's slices with a border whose grey reveals the label.

    Parameters
    ----------
    manifest
        Its files are not changed.
    folder
        Where the new ones are written, numbered; made if it does not exist.
    greys
        Grey of the border, in [0, 1], by label.
    share
        Width of the border, of the picture's shorter side.

    Returns
    -------
    The manifest with the paths of the new files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (path, label) in enumerate(zip(manifest["path"], manifest["label"], strict=True)):
        picture = Preprocessing().picture(read_scan(Path(path)))
        picture[ring_of(picture.shape, share)] = round(255 * greys[label])
        paths.append(str(folder / f"{number:04d}.png"))
        Image.fromarray(picture).save(paths[-1])
    return manifest.assign(path=paths)


@cache
def twins(root: Path) -> pd.DataFrame:
    """A manifest of phantoms that each occur twice, with COVID-19 and healthy: only lesions differ.

    They are written into a folder of ``root``, once for each root; the session's folder for temporary files is
    a good one, so that all tests share them.
    """
    folder, rows = root / "twins", []
    for seed in range(PERSONS):
        ill = make_phantom(seed, shape=(6, SIDE, SIDE), lesions=random_lesions(seed, "covid"))
        healthy = make_phantom(seed, shape=(6, SIDE, SIDE))
        for label, phantom in ((POSITIVE, ill), (NEGATIVE, healthy)):
            for path in write_phantom(phantom, folder, name=f"{label.replace(' ', '-')}-{seed}"):
                if ill.lesions[int(path.stem[-3:])].any():
                    rows.append((str(path), label, f"person-{seed}", "test", "phantom"))
    return pd.DataFrame(rows, columns=["path", "label", "patient", "split", "source"])


def make_trial(manifest: pd.DataFrame, detector: Detector, segmenter: Segmenter | None) -> Trial:
    """A trial of a detector on the slices of a manifest."""
    files = [Path(path) for path in manifest["path"]]
    looks, _, _ = read_pictures(files, segmenter)
    material = Material("made", manifest, looks, with_lungs=segmenter is not None)
    predictions = labelled_predictions(manifest, list(detector.predict_scans(map(read_scan, files))))
    return Trial(detector, material, predictions, segmenter, external=False, part="test")


@cache
def planted_trial(root: Path, name: str) -> Trial:
    """One of the DETECTORS on phantoms whose lesions and borders both reveal the label."""
    segmenter = Segmenter.load(threshold_segmenter(root / "segmenter", (SIDE, SIDE)))
    return make_trial(_planted(root), DETECTORS[name](root / name), segmenter)


@cache
def _planted(root: Path) -> pd.DataFrame:
    return plant_border(twins(root), root / "planted")


def _detector(
    folder: Path, seen: str, weights: NDArray[np.floating], offset: NDArray[np.floating], shown: str
) -> Detector:
    graph = onnx.parser.parse_model(GRAPH.format(seen=seen, shown=shown, cell=SIDE // CELLS))
    constants = {
        "weights": weights[None, None].astype(np.float32),
        "offset": offset[None, None].astype(np.float32),
        "cell_size": np.float32((SIDE // CELLS) ** 2),
        "channel": np.array([1]),
        "places": np.array([1, 2]),
    }
    graph.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    onnx.checker.check_model(graph)
    content = graph.SerializeToString()
    Bundle(_facts(content), content, "name: by hand\n", folder).write(folder)
    return Detector.load(folder, lungs=False)


def _facts(graph: bytes) -> BundleFacts:
    return BundleFacts(
        name="by-hand",
        description="Weights set by hand, for tests.",
        groundglass=__version__,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        preprocessing=Preprocessing(size=(SIDE, SIDE), channels=1, mean=0.0, std=1.0),
        chosen=(Choice(what="weights", criterion="by hand"),),
        training=TrainingFacts(
            dataset="none",
            sources=("none",),
            title="No data",
            licence="none",
            citation="none",
            splits={"none": "none"},
            parts={"train": Part(slices=0, positive=0)},
            fingerprint="",
            seed=0,
            versions={},
        ),
        temperature=1.0,
        threshold=0.5,
    )


DETECTORS: dict[str, Callable[[Path], Detector]] = {
    "border": border_detector,
    "lungs": lung_detector,
    "lungs, unexplained": partial(lung_detector, explains=False),
}
