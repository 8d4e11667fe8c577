import numpy as np
import pandas as pd
import pytest
from PIL import Image

from groundglass.audit.data.appearance import Colour
from groundglass.audit.material import Material, SmallPictures

SLICES = 40
RED, FAINT = (220, 60, 60), (120, 110, 100)


def grey(number):
    return np.random.default_rng(number).integers(0, 256, (48, 64), dtype=np.uint8)


def saved(path, number, mode="RGB", spot=None, alpha=255):
    """Save a grey picture, with a coloured spot of 6 x 8 of its 48 x 64 pixels if one is given."""
    pixels = np.dstack([grey(number)] * 3)
    if spot:
        pixels[10:16, 20:28] = spot
    image = Image.fromarray(pixels).convert(mode)
    if mode == "RGBA":
        image.putalpha(alpha)
    image.save(path)


@pytest.fixture
def make(tmp_path):
    """A material of alternating classes, from the arguments to :func:`saved` for each slice."""

    def made(*pictures, ending="png"):
        paths = [str(tmp_path / f"{number}.{ending}") for number in range(len(pictures))]
        for number, (path, picture) in enumerate(zip(paths, pictures, strict=True)):
            saved(path, number, **picture)
        manifest = pd.DataFrame(
            {
                "path": paths,
                "label": [("covid", "not covid")[number % 2] for number in range(len(paths))],
                "patient": "",
                "split": "",
                "source": "made",
            }
        )
        nothing = np.zeros((len(paths), 128, 128), dtype=bool)
        return Material("made", manifest, SmallPictures(nothing.astype(np.uint8), nothing, nothing, ()))

    return made


def coloured_where(choose):
    return [{"spot": RED if choose(number) else None} for number in range(SLICES)]


def details(result):
    return {cells[0]: dict(zip(result.header, cells, strict=True)) for cells in result.rows}


@pytest.mark.parametrize("coloured", ["covid", "not covid"])
def test_colour_of_one_class_is_a_warning(make, coloured):
    material = make(*coloured_where(lambda number: (number % 2 == 0) == (coloured == "covid")))
    result = Colour().run(material)
    assert (result.severity, result.figure.value) == ("warning", 1)
    assert result.message.endswith(f"the more colour, the more likely {coloured}.")
    assert result.files == tuple(material.paths[(material.manifest["label"] == coloured).to_numpy()])
    assert details(result)[coloured]["Slices with colour"] == "20 of 20"
    assert details(result)[coloured]["Most of a slice that is coloured"] == f"{6 * 8 / (48 * 64):.1%}"
    assert {len(files) for files in result.side_by_side} == {1}
    assert len(result.side_by_side) == 12


def test_the_auc_is_that_of_the_shares(make):
    # 15 of 20 covid slices are coloured: 0.75 of the pairs are ranked correctly, and half of the rest by
    # chance.
    result = Colour().run(make(*coloured_where(lambda number: number % 2 == 0 and number < 30)))
    assert result.figure.value == pytest.approx(0.875)
    assert result.figure.low < 0.875 < result.figure.high
    assert "75.0% of covid and 0.0% of not covid" in result.message


def test_a_few_coloured_slices_of_one_class_are_a_note(make):
    result = Colour().run(make(*coloured_where(lambda number: number in (0, 2, 4, 6))))
    assert result.severity == "note"
    assert result.figure.value == pytest.approx(0.6)
    assert len(result.files) == 4


def test_one_coloured_slice_passes(make):
    result = Colour().run(make(*coloured_where(lambda number: number == 3)))
    assert result.severity is None
    assert result.figure.value == pytest.approx(0.525)
    assert (result.files, result.side_by_side) == ((), ())


@pytest.mark.parametrize(
    "picture",
    [{}, {"mode": "L", "spot": RED}, {"spot": FAINT}, {"mode": "RGBA", "spot": RED, "alpha": 0}],
    ids=["grey in colour", "grey", "tinted", "transparent"],
)
def test_what_is_grey_or_cannot_be_seen_passes_without_a_figure(make, picture):
    result = Colour().run(make(*[picture] * 8))
    assert (result.severity, result.figure.value) == (None, None)
    assert result.message == "None of the 8 slices has coloured pixels."


@pytest.mark.parametrize(
    ("mode", "ending"), [("P", "png"), ("RGBA", "png"), ("RGB", "webp"), ("CMYK", "jpg")]
)
def test_colour_is_seen_in_every_mode(make, mode, ending):
    pictures = [{"mode": mode, "spot": RED if number % 2 else None} for number in range(8)]
    result = Colour().run(make(*pictures, ending=ending))
    assert details(result)["not covid"]["Slices with colour"] == "4 of 4"


def test_files_in_grey_are_not_opened(make, monkeypatch):
    material = make(*[{"mode": "L"}] * 4)
    assert set(material.headers["mode"]) == {"L"}
    monkeypatch.setattr(Image, "open", None)
    assert Colour().run(material).severity is None
