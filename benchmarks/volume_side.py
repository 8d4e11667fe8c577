"""The heavy parts of volume.py, each in a separate process, so that the measuring process stays small.

``write FOLDER SLICES`` writes a phantom as a CT series of 512 x 512; ``lungmask FOLDER SAMPLE`` runs
lungmask's network over some slices of a series on request.
"""

import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from common import PEAK_UNIT, Pacer

SOURCE = (60, 256, 256)
"""Shape of the phantom that is enlarged: making one of 600 slices of 512 x 512 would take 19 GB."""
SIDE = 512
CHUNK = 8
"""Minimum number of slices that are enlarged together."""
SYNTAX = "jpeg-lossless"


def write_series(folder: Path, slices: int) -> None:
    """Write a phantom with COVID-19, enlarged to ``slices`` slices of 512 x 512 over the same chest."""
    from groundglass.files import write_bytes
    from groundglass.phantom import make_phantom, random_lesions
    from groundglass.phantom.dicom import PhantomStack, classic_images
    from groundglass.phantom.dicom_syntax import encode
    from groundglass.scan.volume import Geometry

    small = PhantomStack.of(make_phantom(shape=SOURCE, lesions=random_lesions(0, "covid")))
    shrink = SOURCE[1] / SIDE
    places = small.geometry
    inner = np.arange(SIDE) * shrink
    number = 0
    for heights in np.array_split(np.linspace(0, len(small.hu) - 1, slices), max(1, slices // CHUNK)):
        grid = np.meshgrid(heights, inner, inner, indexing="ij")
        hu = ndimage.map_coordinates(small.hu.astype(np.float32), grid, order=1, mode="nearest")
        positions = places.positions[0] + heights[:, None] * (places.positions[1] - places.positions[0])
        geometry = Geometry(positions, places.row_step * shrink, places.column_step * shrink)
        for image in classic_images(replace(small, hu=np.rint(hu).astype(np.int16), geometry=geometry)):
            number += 1
            image.InstanceNumber = str(number)
            image.SOPInstanceUID = small.uid("image", slices, number)
            write_bytes(folder / f"{number:04d}.dcm", encode(image, SYNTAX))


def run_lungmask_in_turn(folder: Path, sample: int) -> None:
    """Run lungmask's network on ``sample`` slices of a series, spread evenly over it, on each request."""
    import torch
    from PIL import Image

    from groundglass.scan.find import find_series
    from groundglass.scan.scan import Scan
    from segmenters import SIDE as NETWORK_SIDE
    from segmenters import lungmask_inputs, lungmask_network, run_lungmask

    pacer = Pacer()
    usable = [series for series in find_series([folder]).series if series.usable]
    if len(usable) != 1:
        sys.exit(f"{folder} holds {len(usable)} usable series; name a folder with one")
    volume = usable[0].load()
    chosen = np.linspace(0, volume.shape[0] - 1, min(sample, volume.shape[0])).round().astype(int)
    size = (NETWORK_SIDE, NETWORK_SIDE)
    shrunk = [np.array(Image.fromarray(volume.slice(int(z)).pixels).resize(size)) for z in chosen]
    inputs = lungmask_inputs([Scan(pixels, True, str(z)) for z, pixels in zip(chosen, shrunk, strict=True)])
    network = lungmask_network()
    pacer.facts = {
        "slices": volume.shape[0],
        "size": volume.shape[1:],
        "sample": len(inputs),
        "threads": torch.get_num_threads(),
    }
    while True:
        pacer.begin()
        run_lungmask(network, inputs if pacer.warm else inputs[:1])
        pacer.end(memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT)


if __name__ == "__main__":
    task, where, count = sys.argv[1:]
    {"write": write_series, "lungmask": run_lungmask_in_turn}[task](Path(where), int(count))
