import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from groundglass.errors import ScanError
from groundglass.scan.image import MAX_PIXELS, read_image

SIDE = 40


def gradient() -> np.ndarray:
    rows, columns = np.mgrid[0:SIDE, 0:48]
    return ((rows * 5 + columns) % 256).astype(np.uint8)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def modes_of(grey: np.ndarray) -> dict[str, Image.Image]:
    """The same picture in every mode that can hold it without loss."""
    image = Image.fromarray(grey)
    return {
        "L": image,
        "RGB": image.convert("RGB"),
        "RGBA": image.convert("RGBA"),
        "LA": image.convert("LA"),
        "P": image.convert("P"),
        "I;16": Image.fromarray(grey.astype(np.uint16) * 257),
    }


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_lossless_files_of_every_mode_give_the_same_scan(tmp_path: Path, mode: str, ending: str) -> None:
    if ending == "bmp" and mode in ("LA", "I;16"):
        pytest.skip(f"BMP has no mode {mode}")
    grey = gradient()
    scan = read_image(save(modes_of(grey)[mode], tmp_path / f"slice.{ending}"))
    np.testing.assert_allclose(scan.pixels, grey / 255, atol=1e-6)
    assert (scan.pixels.dtype, scan.is_hu, scan.scan_id) == (np.float32, False, "slice")


def test_webp_and_jpeg_are_read_close_to_what_was_saved(tmp_path: Path) -> None:
    grey = np.repeat(np.repeat(np.arange(0, 250, 10, dtype=np.uint8).reshape(5, 5), 16, 0), 16, 1)
    image = Image.fromarray(grey)
    exact = read_image(save(image, tmp_path / "a.webp", lossless=True))
    np.testing.assert_allclose(exact.pixels, grey / 255, atol=1e-6)
    near = read_image(save(image, tmp_path / "a.jpg", quality=95))
    assert np.abs(near.pixels - grey / 255).mean() < 0.01


@given(hnp.arrays(np.uint8, st.tuples(st.integers(32, 48), st.integers(32, 48))), st.integers(0, 255))
def test_grey_does_not_depend_on_the_mode(
    tmp_path_factory: pytest.TempPathFactory, grey: np.ndarray, first: int
) -> None:
    grey[0, :2] = first, 255 - first  # never flat
    folder = tmp_path_factory.mktemp("modes")
    scans = [read_image(save(image, folder / f"{n}.png")) for n, image in enumerate(modes_of(grey).values())]
    for scan in scans[1:-1]:
        np.testing.assert_array_equal(scan.pixels, scans[0].pixels)
    np.testing.assert_allclose(scans[-1].pixels, scans[0].pixels, atol=1e-6)


def test_transparency_is_blended_with_black(tmp_path: Path) -> None:
    grey = gradient()
    alpha = np.full_like(grey, 255)
    alpha[:, :10] = 0
    alpha[:, 10:20] = 51
    expected = grey / 255 * alpha / 255
    for name, layers in {"LA": [grey, alpha], "RGBA": [grey, grey, grey, alpha]}.items():
        image = Image.fromarray(np.dstack(layers), name)
        scan = read_image(save(image, tmp_path / f"{name}.png"))
        np.testing.assert_allclose(scan.pixels, expected, atol=1e-6)


def test_transparent_colour_of_a_palette_is_black(tmp_path: Path) -> None:
    image = Image.fromarray(gradient()).convert("P")
    index = image.getpixel((30, 30))
    scan = read_image(save(image, tmp_path / "p.png", transparency=index))
    assert scan.pixels[30, 30] == 0
    assert scan.pixels[0, 47] == pytest.approx(47 / 255)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    grey = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    scan = read_image(save(Image.fromarray(grey), tmp_path / "turned.png", exif=exif))
    np.testing.assert_allclose(scan.pixels, np.rot90(grey, -1) / 255, atol=1e-6)


def chest_hu() -> np.ndarray:
    """A noisy slice with air around a body with two lungs, in HU."""
    rng = np.random.default_rng(3)
    hu = np.full((96, 96), -1000.0)
    rows, columns = np.mgrid[-1:1:96j, -1:1:96j]
    hu[rows**2 + columns**2 < 0.8] = 40
    for side in (-0.4, 0.4):
        hu[rows**2 / 2 + (columns - side) ** 2 < 0.07] = -830
    return np.rint(hu + rng.normal(0, 12, hu.shape)).clip(-1024, 3000)


@pytest.mark.parametrize("offset", [1024, 8192, 32768])
def test_16_bit_hounsfield_units_with_an_offset_are_recognised(tmp_path: Path, offset: int) -> None:
    stored = (chest_hu() + offset).astype(np.uint16)
    stored[:5] = 0
    scan = read_image(save(Image.fromarray(stored), tmp_path / "slice.png"))
    assert scan.is_hu
    np.testing.assert_array_equal(scan.pixels[5:], chest_hu()[5:])
    assert (scan.pixels[:5] == -1024).all()
    assert scan.warnings == (f"its values look like HU + {offset}, so {offset} was subtracted",)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_a_tiff_of_hounsfield_units_is_read(tmp_path: Path, dtype: type) -> None:
    scan = read_image(save(Image.fromarray(chest_hu().astype(dtype)), tmp_path / "slice.tif"))
    assert scan.is_hu
    np.testing.assert_array_equal(scan.pixels, chest_hu())


@pytest.mark.parametrize("window", [(-600, 1500), (40, 400), (-160, 2000), (-25, 1550)])
def test_16_bit_grey_of_a_window_stays_grey(tmp_path: Path, window: tuple[int, int]) -> None:
    level, width = window
    grey = ((chest_hu() - level) / width + 0.5).clip(0, 1)
    scan = read_image(save(Image.fromarray((grey * 65535).astype(np.uint16)), tmp_path / "slice.png"))
    assert not scan.is_hu
    np.testing.assert_allclose(scan.pixels, grey, atol=2e-5)


def test_8_bit_grey_in_16_bits_is_read(tmp_path: Path) -> None:
    scan = read_image(save(Image.fromarray(gradient().astype(np.uint16)), tmp_path / "dark.png"))
    np.testing.assert_allclose(scan.pixels, gradient() / 255, atol=1e-6)
    assert "8-bit grey" in scan.warnings[0]


def test_16_bit_values_of_unknown_meaning_are_refused(tmp_path: Path) -> None:
    window = ((chest_hu() + 1350) / 1500).clip(0, 1) * 4095
    with pytest.raises(ScanError, match=r"to 39\d\d, are neither Hounsfield.*8-bit grey"):
        read_image(save(Image.fromarray(window.astype(np.uint16)), tmp_path / "twelve.png"))
    wrapped = chest_hu().astype(np.int16).view(np.uint16)
    with pytest.raises(ScanError, match="wrapped around"):
        read_image(save(Image.fromarray(wrapped), tmp_path / "wrapped.png"))


def test_float_tiff_is_read_in_unit_range_only(tmp_path: Path) -> None:
    values = gradient().astype(np.float32) / 255
    scan = read_image(save(Image.fromarray(values), tmp_path / "unit.tif"))
    np.testing.assert_allclose(scan.pixels, values)
    values[3, 3] = np.nan
    with pytest.raises(ScanError, match="not numbers"):
        read_image(save(Image.fromarray(values), tmp_path / "nan.tif"))


def test_a_few_coloured_marks_do_not_make_a_colour_picture(tmp_path: Path) -> None:
    rgb = np.dstack([gradient()] * 3)
    rgb[:6, :6] = 255, 0, 0
    assert read_image(save(Image.fromarray(rgb), tmp_path / "arrow.png")).pixels.shape == (SIDE, 48)


def png_header(width: int, height: int) -> bytes:
    """A PNG of any size whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are not a slice, with a word of the reason."""
    good = save(Image.fromarray(gradient()), folder / "good.png")
    colour = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    stack = [Image.fromarray(gradient()) for _ in range(3)]
    content = {
        "truncated.png": good.read_bytes()[: good.stat().st_size // 2],
        "empty.png": b"",
        "text.png": b"this is no picture, whatever its name says",
        "dicom.dcm": b"\0" * 128 + b"DICM" + b"\0" * 300,
        "bomb.png": png_header(60_000, 60_000),
        "large.png": png_header(10_000, MAX_PIXELS // 10_000 + 1),
        "gone.png": None,
    }
    for name, data in content.items():
        if data is not None:
            (folder / name).write_bytes(data)
    save(Image.fromarray(gradient()[:31]), folder / "tiny.png")
    save(Image.fromarray(colour), folder / "photo.png")
    save(Image.new("L", (64, 64), 7), folder / "flat.png")
    stack[0].save(folder / "stack.tif", save_all=True, append_images=stack[1:])
    reasons = {
        "truncated.png": "decoded",
        "empty.png": "empty",
        "text.png": "not a picture",
        "dicom.dcm": "DICOM",
        "bomb.png": "memory",
        "large.png": "memory",
        "gone.png": "no such file",
        "tiny.png": "too few",
        "photo.png": "colour",
        "flat.png": "same grey",
        "stack.tif": "3 pages",
    }
    return {name: (folder / name, reason) for name, reason in reasons.items()}


@pytest.mark.parametrize(
    "name",
    [
        "truncated.png", "empty.png", "text.png", "dicom.dcm", "bomb.png", "large.png",
        "gone.png", "tiny.png", "photo.png", "flat.png", "stack.tif",
    ],
)  # fmt: skip
def test_what_is_not_a_slice_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path, reason = bad_files(tmp_path)[name]
    with pytest.raises(ScanError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=300)
@given(st.integers(0, 400), st.integers(0, 255), st.sampled_from(["png", "jpg", "bmp", "webp", "tif"]))
def test_damage_gives_a_scan_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, ending: str
) -> None:
    path = save(Image.fromarray(gradient()), tmp_path_factory.mktemp("damage") / f"slice.{ending}")
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(bytes(content[: len(content) - place // 4]))
    try:
        scan = read_image(path)
    except ScanError:
        return
    assert 0 <= scan.pixels.min() <= scan.pixels.max() <= 1
