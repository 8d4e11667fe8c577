from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from groundglass.audit.material import SIDE, small_picture
from groundglass.audit.near_duplicates import (
    FEW,
    NEAR,
    DuplicatePair,
    clusters,
    find_duplicates,
    similar_pictures,
)
from groundglass.phantom import make_phantom, random_lesions
from groundglass.scan.scan import LUNG_WINDOW, apply_window

LESIONS = random_lesions(0, "covid")
MANY = FEW + 4


@cache
def phantoms():
    """The middle slice of 6 phantoms, each another person: uint8, shape (192, 192)."""
    return [
        windowed(make_phantom(seed, shape=(3, 192, 192), lesions=LESIONS).scan.pixels[1]) for seed in range(6)
    ]


def windowed(hu):
    return np.rint(apply_window(hu, *LUNG_WINDOW) * 255).astype(np.uint8)


@cache
def textures(count=8):
    """Random clouds with details of all sizes: uint8, shape (256, 256)."""
    rng = np.random.default_rng(5)
    return [cloud(rng) for _ in range(count)]


def cloud(rng):
    layers = [(rng.normal(size=(size, size)), weight) for size, weight in ((6, 40), (20, 27), (64, 20))]
    layers = [cv2.resize(grey, (256, 256), interpolation=cv2.INTER_CUBIC) * weight for grey, weight in layers]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


def crop(picture, share, top=0.6, left=0.3):
    side = round(share * len(picture))
    top, left = (round(at * (len(picture) - side)) for at in (top, left))
    return picture[top : top + side, left : left + side]


def rescale(picture, share):
    side = round(share * len(picture))
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


def recompress(picture, quality):
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


def relight(picture, gamma=1.0, contrast=1.0, brightness=0.0):
    changed = (picture / 255) ** gamma * contrast + brightness
    return np.rint(255 * np.clip(changed, 0, 1)).astype(np.uint8)


def mirror(picture):
    return np.ascontiguousarray(picture[:, ::-1])


CHANGES: dict[str, tuple[Callable[..., np.ndarray], bool]] = {
    "same pixels": (np.copy, False),
    "crop to 95%": (lambda picture: crop(picture, 0.95), False),
    "crop to 88%": (lambda picture: crop(picture, 0.88), False),
    "crop to 80%": (lambda picture: crop(picture, 0.80), False),
    "rescaled to 45%": (lambda picture: rescale(picture, 0.45), False),
    "rescaled to 170%": (lambda picture: rescale(picture, 1.7), False),
    "JPEG": (lambda picture: recompress(picture, 30), False),
    "brighter": (lambda picture: relight(picture, gamma=0.7), False),
    "darker": (lambda picture: relight(picture, gamma=1.5), False),
    "flatter": (lambda picture: relight(picture, contrast=0.7, brightness=0.1), False),
    "mirrored": (mirror, True),
    "mirrored crop": (lambda picture: mirror(crop(picture, 0.9)), True),
    "everything": (
        lambda picture: recompress(relight(rescale(mirror(crop(picture, 0.9)), 0.7), 0.8), 50),
        True,
    ),
}


def grey_of(pictures):
    return np.array([small_picture(picture) for picture in pictures], dtype=np.uint8).reshape(-1, SIDE, SIDE)


def places(twins):
    return {(twin.first, twin.second) for twin in twins}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("originals", [phantoms, textures])
def test_a_changed_copy_is_found_and_nothing_else(originals, change):
    alter, mirrored = CHANGES[change]
    pictures = originals()
    twins = similar_pictures(grey_of([*pictures, *map(alter, pictures)]))
    assert places(twins) == {(place, place + len(pictures)) for place in range(len(pictures))}
    assert {twin.mirrored for twin in twins} == {mirrored}
    assert {twin.how for twin in twins} == {"same picture"}
    assert all(NEAR <= twin.likeness <= 1 for twin in twins)


def test_copies_are_found_among_many():
    pictures = textures(MANY)
    changed = [pictures[0], crop(pictures[1], 0.85), mirror(pictures[2]), recompress(pictures[3], 30)]
    found = {
        (twin.first, twin.second): twin.mirrored for twin in similar_pictures(grey_of([*pictures, *changed]))
    }
    assert found == {(place, place + MANY): place == 2 for place in range(4)}


def test_crops_are_aligned_to_a_fraction_of_a_pixel():
    pictures = textures()
    twins = similar_pictures(grey_of([*pictures, *(crop(picture, 0.8) for picture in pictures)]))
    assert min(twin.likeness for twin in twins) > 0.97


def test_other_slices_of_the_same_lungs_are_not_the_same_picture():
    volume = make_phantom(3, shape=(8, SIDE, SIDE)).scan.pixels
    assert similar_pictures(grey_of(map(windowed, volume[1:7:2]))) == []


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_nothing_to_find_in_less_than_two(count, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(textures()[0]).save(path)
    assert find_duplicates(paths, grey_of(textures()[:count])) == []


def test_two_alone_can_be_the_same():
    picture = phantoms()[0]
    for other, mirrored in ((picture, False), (mirror(picture), True), (crop(picture, 0.85), False)):
        twins = similar_pictures(grey_of([picture, other]))
        assert [(twin.first, twin.second, twin.mirrored) for twin in twins] == [(0, 1, mirrored)]
    assert similar_pictures(grey_of(phantoms()[:2])) == []


@pytest.mark.parametrize("others", [0, 3, MANY])
def test_pictures_of_one_grey_never_match(others):
    flat = [np.full((SIDE, SIDE), grey, dtype=np.uint8) for grey in (0, 0, 0, 90, 90, 255)]
    assert similar_pictures(grey_of([*flat, *textures(MANY)[:others]])) == []


def test_noise_does_not_match_other_noise():
    rng = np.random.default_rng(2)
    assert similar_pictures(rng.integers(0, 3, (12, SIDE, SIDE), dtype=np.uint8)) == []


@pytest.mark.parametrize("many", [False, True])
def test_the_order_of_the_pictures_does_not_matter(many):
    pictures = textures(MANY) if many else textures()
    changed = [CHANGES[name][0](pictures[place]) for place, name in enumerate(("everything", "crop to 80%"))]
    grey = grey_of([*pictures, *changed])
    order = np.random.default_rng(1).permutation(len(grey))
    shuffled = similar_pictures(grey[order])
    found = {(*sorted((int(order[twin.first]), int(order[twin.second]))), twin.mirrored) for twin in shuffled}
    assert found == {(0, len(pictures), True), (1, len(pictures) + 1, False)}


def test_the_same_pictures_give_the_same_answer():
    grey = grey_of([*phantoms(), *map(CHANGES["everything"][0], phantoms())])
    assert similar_pictures(grey) == similar_pictures(grey.copy())


def written(folder, pictures):
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def test_equal_files_are_distinguished_from_equal_pictures(tmp_path):
    a, b, c, d = textures()[:4]
    pictures = [a, b, a, c, crop(b, 0.9), d, a]
    paths = written(tmp_path, pictures)
    twins = find_duplicates(list(map(str, paths)), grey_of(pictures))
    assert twins[:2] == [DuplicatePair(0, 2, 1.0, "same file"), DuplicatePair(0, 6, 1.0, "same file")]
    assert [(twin.first, twin.second, twin.how) for twin in twins[2:]] == [(1, 4, "same picture")]


def test_the_same_pixels_in_another_file_are_the_same_picture(tmp_path):
    pictures = [*textures()[:3], textures()[1]]
    paths = written(tmp_path, pictures)
    Image.fromarray(pictures[3]).save(paths[3], compress_level=0)
    (twin,) = find_duplicates(paths, grey_of(pictures))
    assert (twin.first, twin.second, twin.how, twin.likeness) == (1, 3, "same picture", 1.0)


def test_what_is_like_one_of_some_equal_files_is_like_each(tmp_path):
    a, b, c = textures()[:3]
    pictures = [mirror(a), a, b, a, c, mirror(a)]
    twins = find_duplicates(written(tmp_path, pictures), grey_of(pictures))
    assert {(twin.first, twin.second) for twin in twins if twin.how == "same file"} == {(0, 5), (1, 3)}
    near = [twin for twin in twins if twin.how == "same picture"]
    assert [(twin.first, twin.second) for twin in near] == [(0, 1), (0, 3), (1, 5), (3, 5)]
    assert all(twin.mirrored for twin in near)


def test_uniform_equal_files_are_still_equal(tmp_path):
    pictures = [np.zeros((SIDE, SIDE), dtype=np.uint8)] * 2 + [np.full((SIDE, SIDE), 9, dtype=np.uint8)]
    assert find_duplicates(written(tmp_path, pictures), grey_of(pictures)) == [
        DuplicatePair(0, 1, 1.0, "same file")
    ]


def test_files_of_one_size_need_not_be_equal(tmp_path):
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        Path(tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in "abc"]
    assert find_duplicates(paths, grey_of(textures()[:3])) == [DuplicatePair(0, 2, 1.0, "same file")]


def test_clusters_are_joined_by_chains_of_pairs():
    assert clusters(7, [(5, 1), (1, 3), (0, 6)]).tolist() == [0, 1, 2, 1, 3, 1, 0]


def test_without_pairs_each_is_a_separate_cluster():
    assert clusters(3, []).tolist() == [0, 1, 2]
    assert clusters(0, []).tolist() == []
