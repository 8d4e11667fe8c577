import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

from groundglass.audit.headers import COLUMNS, header_features, jpeg_quality, read_headers


def noise(mode="L", size=(40, 32)):
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), mode)


def header_of(path):
    return read_headers([path]).iloc[0]


def saved(tmp_path, name, picture, **how):
    path = tmp_path / name
    picture.save(path, **how)
    return path


def test_sizes_and_bytes_are_those_of_the_file(tmp_path):
    path = saved(tmp_path, "a.PNG", noise("RGBA"))
    header = header_of(path)
    size = len(path.read_bytes())
    assert (header["width"], header["height"], header["area"]) == (40, 32, 1280)
    assert header["aspect"] == 1.25
    assert (header["bytes"], header["bytes_per_pixel"]) == (size, size / 1280)
    assert (header["ending"], header["format"], header["mode"]) == ("png", "PNG", "RGBA")
    assert (header["channels"], header["bit_depth"]) == (4, 8)
    assert header["has_alpha"]
    assert np.isnan(header["jpeg_quality"])
    assert not header[["has_icc", "has_exif", "has_text", "progressive"]].any()


def test_the_format_is_that_of_the_content_not_of_the_name(tmp_path):
    picture = io.BytesIO()
    noise().save(picture, "JPEG")
    (tmp_path / "a.png").write_bytes(picture.getvalue())
    header = header_of(tmp_path / "a.png")
    assert (header["ending"], header["format"]) == ("png", "JPEG")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_quality_of_a_jpeg_is_found(tmp_path, mode):
    qualities = [*range(1, 101, 7), 95, 98, 100]
    paths = [saved(tmp_path, f"{quality}.jpg", noise(mode), quality=quality) for quality in qualities]
    assert read_headers(paths)["jpeg_quality"].tolist() == pytest.approx(qualities, abs=1)


def test_a_table_of_another_encoder_gives_the_nearest_quality(tmp_path):
    tables = Image.open(saved(tmp_path, "a.jpg", noise(), quality=80)).quantization
    near = np.array(tables[0])
    near[5] += 1
    assert jpeg_quality(near) == 80


@pytest.mark.parametrize(
    ("ending", "picture", "depth"),
    [
        ("png", noise().convert("1"), 1),
        ("png", noise(), 8),
        ("png", Image.fromarray(np.arange(1280, dtype=np.uint16).reshape(32, 40)), 16),
        ("tif", Image.fromarray(np.arange(1280, dtype=np.uint16).reshape(32, 40)), 16),
        ("tif", noise("RGB"), 8),
        ("bmp", noise(), 8),
        ("webp", noise("RGB"), 8),
    ],
)
def test_bit_depth(tmp_path, ending, picture, depth):
    assert header_of(saved(tmp_path, f"a.{ending}", picture))["bit_depth"] == depth


def test_sixteen_bit_colour_is_seen_although_pillow_opens_it_with_eight(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 40, 3), dtype=np.uint16))
    header = header_of(tmp_path / "a.png")
    assert (header["mode"], header["bit_depth"]) == ("RGB", 16)


def test_data_stored_with_the_picture_are_seen(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Creation Time", "2020")
    exif = Image.Exif()
    exif[0x010E] = "chest"
    paths = [
        saved(tmp_path, "a.png", noise(), pnginfo=text, dpi=(72, 72), icc_profile=b"profile", exif=exif),
        saved(
            tmp_path,
            "b.jpg",
            noise(),
            comment="taken from a paper",
            progressive=True,
            dpi=(300, 300),
            exif=exif,
        ),
        saved(tmp_path, "c.jpg", noise(), icc_profile=b"profile"),
        saved(tmp_path, "d.png", noise().convert("P"), transparency=3),
        saved(tmp_path, "e.webp", noise("RGBA"), exif=exif),
    ]
    headers = read_headers(paths)
    assert headers["has_text"].tolist() == [True, True, False, False, False]
    assert headers["has_icc"].tolist() == [True, False, True, False, False]
    assert headers["has_exif"].tolist() == [True, True, False, False, True]
    assert headers["has_alpha"].tolist() == [False, False, False, True, True]
    assert headers["progressive"].tolist() == [False, True, False, False, False]
    assert headers["dpi"][:2].tolist() == pytest.approx([72, 300], abs=0.1)
    assert headers["dpi"][2:].isna().all()


def test_an_interlaced_png_is_seen(tmp_path):
    # Pillow writes none, so the flag in chunk IHDR is set by hand, and the chunk's checksum with it.
    content = bytearray(saved(tmp_path, "a.png", noise()).read_bytes())
    content[28] = 1
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    assert header_of(tmp_path / "a.png")["progressive"]


def test_a_broken_header_gives_a_row_without_values(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "empty.jpg").touch()
    good = saved(tmp_path, "good.png", noise())
    headers = read_headers([tmp_path / "broken.png", good, tmp_path / "empty.jpg", tmp_path / "gone.png"])
    assert headers["width"].tolist() == pytest.approx([np.nan, 40, np.nan, np.nan], nan_ok=True)
    assert headers["format"].tolist() == ["", "PNG", "", ""]
    assert headers["ending"].tolist() == ["png", "png", "jpg", "png"]
    assert headers["bytes"].tolist() == pytest.approx([20, good.stat().st_size, 0, np.nan], nan_ok=True)
    assert headers["has_alpha"].isna().tolist() == [True, False, True, True]


def test_columns_keep_their_types_whatever_is_known(tmp_path):
    none = read_headers([])
    gone = read_headers([Path("/nowhere/a.png")])
    some = read_headers([saved(tmp_path, "good.png", noise())])
    assert list(some.columns) == list(COLUMNS)
    assert none.dtypes.tolist() == gone.dtypes.tolist() == some.dtypes.tolist()


def test_features_name_their_columns_and_are_finite(tmp_path):
    paths = [
        saved(tmp_path, "a.png", noise("RGBA")),
        saved(tmp_path, "b.jpg", noise()),
        tmp_path / "gone.png",
    ]
    features, origins = header_features(read_headers(paths))
    assert features.shape == (3, len(origins))
    assert features.dtype == np.float64
    assert np.isfinite(features).all()
    assert set(origins) == set(COLUMNS)

    def of(name):
        return features[:, np.array(origins) == name].tolist()

    assert of("width") == [[40], [40], [-1]]
    assert of("has_alpha") == [[1], [0], [-1]]
    assert sorted(zip(*of("format"), strict=True)) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]


def test_features_of_some_columns_alone():
    headers = pd.DataFrame({"mode": ["L", "RGB", "L"], "dpi": [72.0, np.nan, 300.0]})
    features, origins = header_features(headers)
    assert origins == ["mode", "mode", "dpi"]
    assert features.tolist() == [[1, 0, 72], [0, 1, -1], [1, 0, 300]]
