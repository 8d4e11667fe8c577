"""Speed of segmentation: a Groundglass segmenter compared with the network of lungmask, on phantom slices.

For lungmask only the network of its default model R231 is measured, in torch with 32 bits and batches of 20,
as lungmask runs it; its weights are random, which is sufficient for speed. For Groundglass the network alone
is measured, and also the whole: from slices in memory to masks at the slices' own size. Everything compared
runs in the same call, in turn. See benchmarks/README.md.
"""

import argparse
import sys
from collections import deque
from collections.abc import Iterable
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from common import Row, in_turn, machine, show, spread, timed
from groundglass.bundle.engine import Engine
from groundglass.errors import BundleError
from groundglass.phantom import make_phantom, random_lesions
from groundglass.scan.scan import Scan
from groundglass.segment.segmenter import Segmenter, SegmenterBundle, SegmenterFacts

Floats = NDArray[np.float32]

RECIPE = Path(__file__).parents[1] / "recipes" / "lungs-lite0.yaml"
SIDE, LARGE_SIDE = 256, 512
"""Height and width of the slices; lungmask reduces all to the smaller size."""
DEPTH = 10
"""Slices per phantom: making them at 512 x 512 pixels takes 0.3 GB."""
R231_BATCH = 20
"""lungmask's batch size."""
R231_WIDTHS = (64, 128, 256, 512, 1024)
R231_PARAMETERS = 28_953_539
"""lungmask's class has 31,054,275: 2,100,736 more in 1 x 1 shortcuts, which R231 never calls."""
R231 = "lungmask R231, network alone (torch, 32 bits)"


class LungmaskNetwork(nn.Module):
    """The U-Net of lungmask's R231: one grey channel to background and two lungs.

    Levels of two 3 x 3 convolutions, each followed by ReLU and batch normalisation; average pooling; bilinear
    upsampling and a 1 x 1 convolution. Hofmanninger et al. 2020, doi 10.1186/s41747-020-00173-2; the sizes are
    those of lungmask 0.2.22.
    """

    def __init__(self) -> None:
        super().__init__()
        ways_up = list(pairwise(reversed(R231_WIDTHS)))
        self.down = nn.ModuleList(_level(*widths) for widths in pairwise((1, *R231_WIDTHS)))
        self.narrow = nn.ModuleList(nn.Conv2d(*widths, 1) for widths in ways_up)
        self.up = nn.ModuleList(_level(*widths) for widths in ways_up)
        self.last = nn.Conv2d(R231_WIDTHS[0], 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, 1, height, width) to log-probabilities (batch, 3, height, width)."""
        skips: list[Tensor] = []
        for level in self.down:
            skips.append(level(F.avg_pool2d(skips[-1], 2) if skips else images))
        x = skips.pop()
        for narrow, level in zip(self.narrow, self.up, strict=True):
            wide = narrow(F.interpolate(x, scale_factor=2, mode="bilinear"))
            x = level(torch.cat([wide, skips.pop()], 1))
        return F.log_softmax(self.last(x), 1)


def _level(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for given in (channels, width):
        layers += [nn.Conv2d(given, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers)


def lungmask_network() -> LungmaskNetwork:
    """The network with random weights; ends the benchmark if its size differs from lungmask's."""
    network = LungmaskNetwork().eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters != R231_PARAMETERS:
        sys.exit(f"the network of R231 has {R231_PARAMETERS:,} parameters, this one {parameters:,}")
    return network


def run_lungmask(network: LungmaskNetwork, images: Floats) -> None:
    """Images, float32 (slices, 1, height, width), to the most likely class of each pixel, batch by batch."""
    with torch.inference_mode():
        for batch in torch.from_numpy(images).split(R231_BATCH):
            network(batch).argmax(1).to(torch.uint8).numpy()


def untrained_bundle() -> SegmenterBundle:
    """The network of recipes/lungs-lite0.yaml with random weights: as fast as the trained one.

    It has only the facts that a segmenter needs, so it cannot be written.
    """
    from groundglass.recipe.recipe import load_recipe
    from groundglass.recipe.tasks import SegmentationRecipe
    from groundglass.train.export import halve_weights, onnx_graph
    from groundglass.train.segmentation_models import build_segmentation_model

    recipe = load_recipe(RECIPE, ("model.weights=none",))
    assert isinstance(recipe, SegmentationRecipe)
    preprocessing = recipe.preprocessing
    model = nn.Sequential(build_segmentation_model(recipe.model, preprocessing.channels), nn.Sigmoid())
    graph = halve_weights(onnx_graph(model, (preprocessing.channels, *preprocessing.size), ["masks"]))
    known: dict[str, Any] = {
        "name": f"{recipe.name}, untrained",
        "preprocessing": preprocessing,
        "precision": recipe.deploy_precision,
        "post_processing": recipe.post_processing,
    }
    return SegmenterBundle(SegmenterFacts.model_construct(**known), graph, "", RECIPE)


def open_bundle(name_or_path: str | None, *, untrained: bool) -> SegmenterBundle:
    if untrained:
        print("Random weights are measured: the network takes its usual time, post-processing does not.")
        return untrained_bundle()
    try:
        return SegmenterBundle.load(name_or_path)
    except BundleError as error:
        sys.exit(f"{error}; --untrained measures one with random weights")


def phantom_slices(side: int, count: int) -> list[Scan]:
    """Slices of a phantom with COVID-19 and a healthy one, repeated up to ``count``."""
    slices = []
    for seed, disease in enumerate(("covid", "none")):
        volume = make_phantom(seed, shape=(DEPTH, side, side), lesions=random_lesions(seed, disease)).scan
        slices += [Scan(pixels, volume.is_hu, f"{disease}-{z}") for z, pixels in enumerate(volume.pixels)]
    return list(islice(cycle(slices), count))


def lungmask_inputs(scans: list[Scan]) -> Floats:
    """HU from -1024 to 600 scaled to 0 to 1: float32, shape (slices, 1, height, width)."""
    hu = np.stack([scan.pixels for scan in scans]).clip(-1024, 600)
    return np.ascontiguousarray((hu[:, None] + 1024) / 1624, dtype=np.float32)


def _exhaust(answers: Iterable[object]) -> None:
    deque(answers, maxlen=0)


def measure(bundle: SegmenterBundle, slices: int, batch: int, repetitions: int) -> dict[str, list[float]]:
    """Slices per second of each side, by repetition; ``batch`` slices go through lungmask's network."""
    facts = bundle.facts
    segmenter = Segmenter(bundle)
    engine = Engine(bundle.graph, (facts.preprocessing.channels, *facts.preprocessing.size), facts.precision)
    small, large = phantom_slices(SIDE, slices), phantom_slices(LARGE_SIDE, slices)
    inputs, theirs = [facts.preprocessing(scan) for scan in small], lungmask_inputs(small[:batch])
    network = lungmask_network()
    tasks = {
        R231: lambda: run_lungmask(network, theirs),
        f"Groundglass, network alone (OpenVINO, {facts.precision})": lambda: _exhaust(engine.run(inputs)),
        f"Groundglass, slices of {SIDE} x {SIDE} to masks": lambda: _exhaust(segmenter.segment_scans(small)),
        f"Groundglass, slices of {LARGE_SIDE} x {LARGE_SIDE} to masks": lambda: _exhaust(
            segmenter.segment_scans(large)
        ),
    }
    seconds = in_turn({name: timed(task) for name, task in tasks.items()}, repetitions)
    return {
        name: [(len(theirs) if name == R231 else slices) / taken for taken in times]
        for name, times in seconds.items()
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    which = options.add_mutually_exclusive_group()
    which.add_argument("--bundle", help="a segmenter's name, folder, zip or run [the shipped segmenter]")
    which.add_argument("--untrained", action="store_true", help=f"random weights for {RECIPE.name} instead")
    options.add_argument("--slices", type=int, default=200, help="through Groundglass [%(default)s]")
    options.add_argument("--repetitions", type=int, default=5, help="of each [%(default)s]")
    options.add_argument("--quick", action="store_true", help="only check that it runs: few slices, once")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = options.parse_args()
    slices, batch, repetitions = (8, 2, 1) if args.quick else (args.slices, R231_BATCH, args.repetitions)
    print(*machine(), sep="\n")
    bundle = open_bundle(args.bundle, untrained=args.untrained)
    print(
        f"{slices} phantom slices, {batch} of them through lungmask's network ({R231_PARAMETERS:,} parameters, "
        f"{torch.get_num_threads()} threads); bundle {bundle.facts.name}; "
        f"repetitions of each, in turn: {repetitions}"
    )
    rates = measure(bundle, slices, batch, repetitions)
    rows: list[Row] = []
    for name, values in rates.items():
        ratios = [ours / theirs for ours, theirs in zip(values, rates[R231], strict=True)]
        rows.append((name, spread(values, ".1f"), spread(ratios, ".1f")))
    header = ("segmentation", "slices/s", "ratio to R231")
    show("Segmentation: median (least to largest)", header, rows, markdown=args.markdown)


if __name__ == "__main__":
    main()
