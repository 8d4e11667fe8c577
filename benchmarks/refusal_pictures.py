"""Pictures that are not axial chest CT, of many kinds: drawn, from packages' sample data, or from whole CT volumes.

:data:`KINDS` names a function for each kind. Every function takes a random generator and a number of
pictures, and yields 8-bit arrays, shape (height, width). What is drawn depends only on the seed.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Random = np.random.Generator
Ellipse = tuple[float, float, float, float, float]
"""Column, row, half-width and half-height of an ellipse, as shares of the picture, and its HU."""

SIDE = 320
WINDOWS = ((40, 400), (40, 300), (-600, 1500), (50, 350), (-500, 1400), (300, 2000), (-160, 1600))
"""Level and width in HU of the windows in which slices are saved."""


def drawn_ct(shapes: Sequence[Ellipse], random: Random, window: tuple[float, float]) -> Picture:
    """A slice of ellipses, each painted over those before it, with blur, texture and noise, through a window."""
    hu = np.full((SIDE, SIDE), -1000, dtype=np.float32)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    wave = cv2.GaussianBlur(random.normal(0, 1, hu.shape), (0, 0), SIDE / 40).astype(np.float32)
    for x, y, half_width, half_height, value in shapes:
        shift = random.normal(0, 0.006, 2)
        distance = ((columns - x - shift[0]) / half_width) ** 2 + ((rows - y - shift[1]) / half_height) ** 2
        hu[distance + 0.5 * wave < 1] = value
    texture = cv2.GaussianBlur(random.normal(0, 1, hu.shape), (0, 0), 3).astype(np.float32)
    hu[hu > -900] += 120 * texture[hu > -900]
    hu = cv2.GaussianBlur(hu, (0, 0), 1) + random.normal(0, 12, hu.shape).astype(np.float32)
    return windowed(hu, window)


def windowed(hu: NDArray[np.float32], window: tuple[float, float]) -> Picture:
    """HU as 8-bit grey."""
    level, width = window
    return np.rint(((hu - level + width / 2) / width).clip(0, 1) * 255).astype(np.uint8)


def mirrored(shapes: Sequence[Ellipse]) -> list[Ellipse]:
    """The shapes and their mirror images."""
    return [shape for x, *rest in shapes for shape in ((x, *rest), (1 - x, *rest))]


def drawn_body(draw: Callable[[Random], list[Ellipse]]) -> Callable[[Random, int], Iterator[Picture]]:
    """Slices of one kind of body part, each of another person and in the next window."""

    def make(random: Random, count: int) -> Iterator[Picture]:
        for window in islice(cycle(WINDOWS), count):
            yield drawn_ct(draw(random), random, window)

    return make


def shoulders(random: Random) -> list[Ellipse]:
    """Above the lungs: fat in the armpits, between the muscles of the shoulders and those of the chest wall."""
    fat = random.uniform(-120, -85)
    return [
        (0.5, 0.52, random.uniform(0.45, 0.49), random.uniform(0.2, 0.26), fat),
        (0.5, 0.52, 0.4, 0.18, 45),
        *mirrored(
            [
                (random.uniform(0.24, 0.3), 0.5, random.uniform(0.05, 0.09), random.uniform(0.07, 0.14), fat),
                (random.uniform(0.13, 0.17), 0.5, 0.05, 0.06, 350),
                (0.34, 0.6, 0.07, 0.015, 400),
            ]
        ),
        (0.5, 0.45, 0.03, 0.025, -980),
        (0.5, 0.6, 0.06, 0.05, 300),
    ]


def head(random: Random) -> list[Ellipse]:
    """A skull with a brain and its ventricles, sometimes with air in the sinuses."""
    wide, high = random.uniform(0.3, 0.38), random.uniform(0.38, 0.45)
    shapes = [(0.5, 0.5, wide, high, 40), (0.5, 0.5, wide - 0.02, high - 0.02, 1000)]
    shapes += [(0.5, 0.5, wide - 0.05, high - 0.05, 36), *mirrored([(0.45, 0.48, 0.025, 0.12, 5)])]
    if random.random() < 0.5:
        shapes += mirrored([(0.42, 0.22, 0.05, 0.06, -980), (0.35, 0.3, 0.05, 0.05, 10)])
        shapes += mirrored([(0.25, 0.6, 0.03, 0.04, -700)])
    return shapes


def abdomen(random: Random) -> list[Ellipse]:
    """Liver, spleen, kidneys and a spine, with gas in the stomach and the bowel."""
    shapes = [(0.5, 0.5, 0.46, 0.33, -100), (0.5, 0.5, 0.42, 0.29, 45), (0.5, 0.5, 0.36, 0.23, -90)]
    shapes += [(0.3, 0.45, 0.16, 0.18, 70), (0.78, 0.55, 0.08, 0.1, 65), (0.5, 0.7, 0.07, 0.06, 300)]
    shapes += mirrored([(0.34, 0.64, 0.06, 0.07, 100)])
    for _ in range(int(random.integers(1, 5))):
        x, y, r = random.uniform(0.4, 0.8), random.uniform(0.28, 0.5), random.uniform(0.025, 0.1)
        shapes += [(x, y, r + 0.015, r + 0.015, 40), (x, y, r, r * random.uniform(0.4, 1), -950)]
    return shapes


def pelvis(random: Random) -> list[Ellipse]:
    """The iliac bones or the hips, with gas in the rectum."""
    shapes = [(0.5, 0.5, 0.47, 0.32, -100), (0.5, 0.5, 0.42, 0.27, 50), (0.5, 0.48, 0.2, 0.2, -95)]
    shapes += mirrored([(0.25, 0.55, 0.07, 0.1, 500), (0.25, 0.55, 0.05, 0.07, 150)])
    gas = random.uniform(0.02, 0.06)
    shapes += [(0.5, 0.42, 0.11, 0.09, 10), (0.5, 0.62, gas + 0.02, gas + 0.02, 45)]
    return [*shapes, (0.5, 0.61, gas, gas, -900)]


def neck(random: Random) -> list[Ellipse]:
    """Trachea and vertebra between the muscles of the neck."""
    size = random.uniform(0.2, 0.3)
    shapes = [(0.5, 0.5, size + 0.03, size, -90), (0.5, 0.5, size, size - 0.03, 50)]
    return [*shapes, (0.5, 0.4, 0.05, 0.04, -990), (0.5, 0.55, 0.07, 0.06, 400), (0.5, 0.6, 0.025, 0.025, 30)]


def thighs(random: Random) -> list[Ellipse]:
    """Two legs side by side."""
    size = random.uniform(0.15, 0.2)
    return mirrored(
        [
            (0.28, 0.5, size + 0.025, size + 0.025, -100),
            (0.28, 0.5, size, size, 55),
            (0.28, 0.47, 0.05, 0.05, 1100),
            (0.28, 0.47, 0.028, 0.028, random.uniform(-80, 40)),
        ]
    )


def breasts(random: Random) -> list[Ellipse]:
    """Only the fat of the breasts, as below the lungs of a patient with large breasts, over the liver."""
    shapes = [(0.5, 0.58, 0.44, 0.26, 50), (0.36, 0.56, 0.22, 0.19, 70), (0.5, 0.75, 0.06, 0.05, 300)]
    return [*mirrored([(0.28, 0.33, 0.15, 0.12, random.uniform(-115, -90))]), *shapes]


def test_object(random: Random) -> list[Ellipse]:
    """A round object for quality control with inserts, including air."""
    shapes = [(0.5, 0.5, 0.44, 0.44, random.uniform(-20, 120))]
    for angle in np.arange(0, 2 * np.pi, np.pi / 4) + random.uniform(0, 1):
        size = random.uniform(0.03, 0.07)
        value = float(random.choice([-1000, -1000, -100, 120, 340, 950]))
        shapes.append((0.5 + 0.27 * np.cos(angle), 0.5 + 0.27 * np.sin(angle), size, size, value))
    return shapes


def _volume(random: Random) -> NDArray[np.float32]:
    """A phantom chest with cubic voxels, HU, shape (slices, height, width), from the feet to the head."""
    from groundglass.phantom.phantom import make_phantom

    shape, spacing = (96, 128, 128), (2.7, 2.8, 2.8)
    return make_phantom(int(random.integers(1 << 30)), shape=shape, spacing=spacing).scan.pixels


def reformats(axis: int) -> Callable[[Random, int], Iterator[Picture]]:
    """Coronal (1) or sagittal (2) planes of phantoms."""

    def make(random: Random, count: int) -> Iterator[Picture]:
        windows = cycle(WINDOWS)
        for _ in range(-(-count // 4)):
            volume = _volume(random)
            for place in random.uniform(0.3, 0.7, min(4, count)):
                plane = volume[::-1].take(int(place * volume.shape[axis]), axis=axis)
                yield windowed(cv2.resize(plane, (SIDE, SIDE)), next(windows))

    return make


def radiographs(axis: int) -> Callable[[Random, int], Iterator[Picture]]:
    """Frontal (1) or lateral (2) projections of phantoms."""

    def make(random: Random, count: int) -> Iterator[Picture]:
        for _ in range(count):
            yield projection(_volume(random)[::-1], axis)

    return make


def projection(hu: NDArray[np.float32], axis: int) -> Picture:
    """A radiograph: bright where much is absorbed."""
    absorbed = (1 + hu.clip(-1000, 3000) / 1000).sum(axis=axis)
    low, high = np.percentile(absorbed, (1, 99.5))
    grey = ((absorbed - low) / (high - low)).clip(0, 1) ** 0.8
    return np.rint(cv2.resize(grey, (SIDE, SIDE)) * 255).astype(np.uint8)


def text_pages(random: Random, count: int) -> Iterator[Picture]:
    """Pages of words, black on white or the reverse."""
    text = "the lung window slice shows opacity of both lobes patient report table figure and was not"
    words = text.split(" ")
    for number in range(count):
        page = Image.new("L", (SIDE, SIDE), 255)
        draw, size = ImageDraw.Draw(page), int(random.integers(9, 22))
        for line in range(10, SIDE - 10, size + 4):
            draw.text((10, line), " ".join(random.choice(words, 12)), 0, ImageFont.load_default(size))
        yield np.asarray(page) if number % 2 else 255 - np.asarray(page)


def plots(draw: Callable[[object, Random], None]) -> Callable[[Random, int], Iterator[Picture]]:
    """Figures by matplotlib."""

    def make(random: Random, count: int) -> Iterator[Picture]:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        for number in range(count):
            with mpl.rc_context({"axes.prop_cycle": mpl.cycler(color=["0", "0.3", "0.6"])}):
                figure = Figure(figsize=(4, 3.4), dpi=90)
                canvas = FigureCanvasAgg(figure)
                draw(figure.add_subplot(), random)
                canvas.draw()
            grey = cv2.cvtColor(np.asarray(canvas.buffer_rgba())[..., :3], cv2.COLOR_RGB2GRAY)
            yield 255 - grey if number % 3 == 0 else np.asarray(grey, dtype=np.uint8)

    return make


def scatter(axes, random: Random) -> None:
    """Clouds of points."""
    for _ in range(int(random.integers(1, 4))):
        points = random.normal(random.uniform(-2, 2, 2), 0.8, (200, 2))
        axes.scatter(*points.T, s=random.uniform(5, 60), color=str(round(random.uniform(0, 0.7), 2)))


def curves(axes, random: Random) -> None:
    """Lines, filled curves and bars."""
    kind, x = random.integers(3), np.linspace(0, 6, 80)
    if kind == 0:
        axes.plot(x, np.sin(x[:, None] + random.uniform(0, 6, 3)))
    elif kind == 1:
        axes.fill_between(x, np.abs(np.sin(x + random.uniform(0, 6))), color="0.4")
    else:
        axes.bar(range(8), random.uniform(1, 5, 8), color="0.5")


def matrices(axes, random: Random) -> None:
    """Heat maps and contours, in grey."""
    values = cv2.GaussianBlur(random.normal(0, 1, (60, 60)), (0, 0), random.uniform(1, 8))
    (axes.contourf if random.random() < 0.5 else axes.imshow)(values, cmap="gray")


def noise(random: Random, count: int) -> Iterator[Picture]:
    """White noise and clouds at every scale."""
    for coarse in np.geomspace(0.4, 40, count):
        values = cv2.GaussianBlur(random.normal(0, 1, (SIDE, SIDE)), (0, 0), coarse)
        yield stretched(values)


def stretched(values: NDArray[np.float64]) -> Picture:
    """Values as 8-bit grey over their whole range."""
    low, high = np.percentile(values, (1, 99))
    return np.rint(((values - low) / max(high - low, 1e-9)).clip(0, 1) * 255).astype(np.uint8)


def gradients(random: Random, count: int) -> Iterator[Picture]:
    """Linear and round gradients and waves."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    for number in range(count):
        angle, (x, y) = random.uniform(0, 6), random.uniform(0.3, 0.7, 2)
        way = columns * np.cos(angle) + rows * np.sin(angle)
        round_way = np.hypot(columns - x, rows - y)
        yield stretched((way, round_way, np.sin(20 * way), np.sin(25 * round_way))[number % 4])


def figures(random: Random, count: int) -> Iterator[Picture]:
    """Filled ellipses and boxes, at random or in pairs, on a plain background."""
    for number in range(count):
        page = Image.new("L", (SIDE, SIDE), int(random.integers(120, 256)) if number % 2 else 0)
        draw = ImageDraw.Draw(page)
        for _ in range(int(random.integers(2, 7))):
            x, y, w, h = random.uniform(0.1, 0.6, 4) * SIDE
            grey = int(random.integers(0, 256))
            (draw.ellipse if random.random() < 0.6 else draw.rectangle)((x, y, x + w, y + h), fill=grey)
        if number % 3 == 0:
            w, h, grey = *random.uniform(0.1, 0.2, 2), int(random.integers(0, 90))
            for x in (0.3, 0.7):
                box = [SIDE * value for value in (x - w, 0.5 - h, x + w, 0.5 + h)]
                draw.ellipse(box, fill=grey)
        yield np.asarray(page)


def screenshots(random: Random, count: int) -> Iterator[Picture]:
    """Windows with title bars, buttons, lists and words, light or dark."""
    for number in range(count):
        ground, ink = (235, 20) if number % 2 else (35, 220)
        page = Image.new("L", (SIDE + 80, SIDE), ground)
        draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
        for _ in range(int(random.integers(2, 5))):
            x, y = (int(value) for value in random.uniform(0, 0.5, 2) * SIDE)
            w, h = (int(value) for value in random.uniform(0.35, 0.7, 2) * SIDE)
            draw.rectangle((x, y, x + w, y + h), fill=int(random.integers(0, 256)), outline=ink)
            draw.rectangle((x, y, x + w, y + 14), fill=int(random.integers(60, 200)))
            for line in range(y + 20, y + h - 12, 15):
                draw.text((x + 6, line), f"item {random.integers(1000)}  ok", ink, font)
        yield np.asarray(page)


def hot_spots(random: Random, count: int) -> Iterator[Picture]:
    """A few bright spots on black or white, as in nuclear medicine and pictures of stars."""
    for number in range(count):
        values = np.zeros((SIDE, SIDE))
        for _ in range(int(random.integers(5, 60))):
            row, column = random.integers(20, SIDE - 20, 2)
            values[row, column] = random.uniform(0.2, 1)
        spots = stretched(cv2.GaussianBlur(values, (0, 0), random.uniform(2, 14)))
        yield 255 - spots if number % 2 else spots


def ultrasound(random: Random, count: int) -> Iterator[Picture]:
    """Speckle in a sector, with dark cysts."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    angle, reach = np.arctan2(columns - 0.5, rows + 0.05), np.hypot(columns - 0.5, rows + 0.05)
    for _ in range(count):
        speckle = cv2.GaussianBlur(random.rayleigh(1, (SIDE, SIDE)), (0, 0), 1.2)
        for _ in range(int(random.integers(1, 4))):
            x, y, r = random.uniform(0.3, 0.7), random.uniform(0.3, 0.8), random.uniform(0.04, 0.14)
            speckle[np.hypot(columns - x, rows - y) < r] *= 0.15
        inside = (np.abs(angle) < 0.65) & (reach < 1) & (reach > 0.1)
        yield stretched(np.where(inside, speckle, 0))


def digits(random: Random, count: int) -> Iterator[Picture]:
    """Handwritten digits, one or many on a page."""
    from sklearn.datasets import load_digits

    images = load_digits().images / 16
    for number in range(count):
        rows = 1 + number % 4
        chosen = images[random.integers(len(images), size=rows * rows)]
        page = np.concatenate([np.concatenate(list(row), axis=1) for row in chosen.reshape(rows, rows, 8, 8)])
        shown = stretched(cv2.resize(page, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))
        yield 255 - shown if number % 2 else shown


def samples(*files: str) -> Callable[[Random, int], Iterator[Picture]]:
    """Crops of pictures that come with packages, each with another size."""

    def make(random: Random, count: int) -> Iterator[Picture]:
        for file in islice(cycle(files), count):
            package, name = file.split("/", 1)
            spec = find_spec(package)
            if spec is None or spec.origin is None:
                raise SystemExit(f"install {package}, whose sample pictures are measured")
            grey = np.asarray(Image.open(Path(spec.origin).parent / name).convert("L"))
            share = random.uniform(0.5, 1)
            height, width = (int(share * side) for side in grey.shape)
            top, left = (
                int(random.integers(0, side - cut + 1))
                for side, cut in zip(grey.shape, (height, width), strict=True)
            )
            yield grey[top : top + height, left : left + width]

    return make


def brains(random: Random, count: int) -> Iterator[Picture]:
    """Planes of the MR volume that comes with nibabel."""
    import nibabel
    from nibabel.testing import data_path

    volume = np.asanyarray(nibabel.load(Path(str(data_path)) / "anatomical.nii").dataobj, dtype=np.float64)
    for number in range(count):
        axis = number % 3
        plane = volume.take(int(random.uniform(0.3, 0.7) * volume.shape[axis]), axis=axis).T[::-1]
        yield stretched(cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


SKIMAGE = "skimage/data/{}.png"
KINDS: dict[str, Callable[[Random, int], Iterator[Picture]]] = {
    "shoulders, drawn CT": drawn_body(shoulders),
    "head, drawn CT": drawn_body(head),
    "abdomen, drawn CT": drawn_body(abdomen),
    "pelvis, drawn CT": drawn_body(pelvis),
    "neck, drawn CT": drawn_body(neck),
    "thighs, drawn CT": drawn_body(thighs),
    "breasts, drawn CT": drawn_body(breasts),
    "test object, drawn CT": drawn_body(test_object),
    "coronal phantom": reformats(1),
    "sagittal phantom": reformats(2),
    "frontal radiograph of a phantom": radiographs(1),
    "lateral radiograph of a phantom": radiographs(2),
    "text": text_pages,
    "scatter plots": plots(scatter),
    "curves and bars": plots(curves),
    "heat maps and contours": plots(matrices),
    "noise": noise,
    "gradients": gradients,
    "drawn figures": figures,
    "screenshots": screenshots,
    "hot spots": hot_spots,
    "ultrasound": ultrasound,
    "digits": digits,
    "flowers and buildings": samples(
        "sklearn/datasets/images/flower.jpg", "sklearn/datasets/images/china.jpg"
    ),
    "people and animals": samples(
        *(SKIMAGE.format(name) for name in ("astronaut", "camera", "chelsea", "horse")),
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    ),
    "things": samples(
        *(SKIMAGE.format(name) for name in ("coffee", "coins", "motorcycle_left", "clock_motion", "moon"))
    ),
    "textures": samples(*(SKIMAGE.format(name) for name in ("brick", "grass", "gravel"))),
    "scanned text": samples(*(SKIMAGE.format(name) for name in ("page", "text"))),
    "histology and cells": samples(*(SKIMAGE.format(name) for name in ("ihc", "cell"))),
    "fundus of the eye": samples("skimage/data/retina.jpg"),
    "stars": samples("skimage/data/hubble_deep_field.jpg"),
    "brain, MR": brains,
}
