from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from groundglass.audit.check import NotApplicable
from groundglass.audit.data.label_from_metadata import LabelFromFile
from groundglass.audit.material import Material, SmallPictures

SLICES = 60


@pytest.fixture
def make(tmp_path):
    """Materials of files saved as specified: for each an index, a patient, whether it is covid, and a mode."""

    def saved(patients, covid, modes, endings=None, sizes=None, parts=None):
        endings = endings or ["png"] * len(covid)
        sizes = sizes or [(40, 32)] * len(covid)
        paths = []
        for number, (mode, ending, size) in enumerate(zip(modes, endings, sizes, strict=True)):
            grey = np.random.default_rng(number).integers(0, 256, size[::-1], dtype=np.uint8)
            paths.append(str(tmp_path / f"{number}.{ending}"))
            Image.fromarray(grey).convert(mode).save(paths[-1], compress_level=0)
        manifest = pd.DataFrame(
            {
                "path": paths,
                "label": np.where(covid, "covid", "not covid"),
                "patient": [str(patient) for patient in patients],
                "split": parts or [""] * len(paths),
                "source": "made",
            }
        )
        nothing = np.zeros((len(paths), 128, 128), dtype=bool)
        return Material("made", manifest, SmallPictures(nothing.astype(np.uint8), nothing, nothing, ()))

    return saved


def alternating(count=SLICES):
    return [number % 2 == 0 for number in range(count)]


def details(result):
    return {cells[0]: dict(zip(result.header, cells, strict=True)) for cells in result.rows}


def test_a_mode_that_only_one_class_has_is_found_with_its_files(make):
    covid = alternating(160)
    modes = ["RGBA" if number % 8 in (0, 2, 4) else "RGB" for number in range(160)]
    material = make(range(160), covid, modes, parts=["train"] * 100 + ["test"] * 60)
    result = LabelFromFile().run(material)
    assert result.severity == "error"
    # 0.75 of the covid files are distinguished from all others, the rest is chance: 0.75 + 0.25 / 2.
    assert result.figure.value == pytest.approx(0.875, abs=0.05)
    assert result.files == tuple(material.paths[np.array(modes) == "RGBA"])
    assert "All 60 files with mode RGBA are covid." in result.message
    assert "on the test set, after training on the training set, with AUC 0.87 (" in result.message
    assert details(result)["mode"]["Difference"] == "covid: RGBA 75%, RGB 25%; not covid: RGB 100%"
    assert details(result)["mode"]["AUC on the test set"].startswith("0.87")


def test_a_leak_in_every_file_is_an_error(make):
    covid = alternating()
    endings = ["png" if positive else "jpg" for positive in covid]
    result = LabelFromFile().run(make(range(SLICES), covid, ["L"] * SLICES, endings))
    assert (result.severity, result.figure.value, result.measure) == ("error", 1.0, "AUC, 5-fold")
    assert details(result)["ending"]["Difference"] == "covid: png 100%; not covid: jpg 100%"
    assert len(result.files) == SLICES
    assert "on the test set" not in result.message


def test_sizes_that_differ_are_described_by_their_medians(make):
    covid = alternating()
    sizes = [(100 + number if positive else 40 + number % 20, 32) for number, positive in enumerate(covid)]
    result = LabelFromFile().run(make(range(SLICES), covid, ["L"] * SLICES, sizes=sizes))
    assert result.severity == "error"
    assert details(result)["width"]["Difference"] == "covid: median 129; not covid: median 50"
    assert result.files == ()


def test_headers_that_differ_without_the_label_pass(make):
    covid = alternating(80)
    rng = np.random.default_rng(1)
    sizes = [(int(width), 32) for width in rng.integers(40, 120, 80)]
    endings = rng.choice(["png", "jpg"], 80).tolist()
    result = LabelFromFile().run(make(range(80), covid, ["L"] * 80, endings, sizes))
    assert result.severity is None
    assert result.figure.value == pytest.approx(0.5, abs=0.2)
    assert result.files == ()
    assert details(result)["format"]


def test_files_that_are_all_alike_pass_without_a_figure(make):
    material = make(range(8), alternating(8), ["L"] * 8)
    assert len(set(material.headers["bytes"])) == 1
    result = LabelFromFile().run(material)
    assert (result.severity, result.figure.value, result.rows) == (None, None, ())


def test_bytes_alone_are_at_most_a_warning(make):
    material = make(range(SLICES), alternating(), ["L"] * SLICES)
    for number, (path, positive) in enumerate(zip(material.paths, material.truth, strict=True)):
        with Path(path).open("ab") as handle:
            handle.write(bytes(number + 500 * positive))
    result = LabelFromFile().run(material)
    assert (result.severity, result.figure.value) == ("warning", 1.0)
    assert "Without the file size" not in result.message  # nothing else differs


def test_sizes_specific_to_patients_pass(make):
    # Each patient has its own size and label: split by slice all would be predicted, by patient nothing is.
    rng = np.random.default_rng(0)
    covid = rng.permutation(np.repeat([True, False], 15))
    widths = rng.permutation(np.arange(30)) * 2 + 40
    patients = np.repeat(np.arange(30), 4)
    sizes = [(int(widths[patient]), 32) for patient in patients]
    args = ([bool(covid[patient]) for patient in patients], ["L"] * 120, None, sizes)
    assert LabelFromFile().run(make(patients, *args)).severity is None
    assert LabelFromFile().run(make(range(120), *args)).severity == "error"


def test_a_kind_of_few_groups_is_not_named_as_a_giveaway(make):
    covid = alternating()
    endings = ["png" if positive else "jpg" for positive in covid]
    modes = ["RGB" if number in (0, 2, 4) else "L" for number in range(SLICES)]
    result = LabelFromFile().run(make(range(SLICES), covid, modes, endings))
    assert "RGB" not in result.message
    assert "All 30 files with" in result.message


def test_a_class_of_one_patient_does_not_apply(make):
    patients = [0 if positive else number for number, positive in enumerate(alternating(12), start=1)]
    material = make(patients, alternating(12), ["L", "RGB"] * 6)
    with pytest.raises(NotApplicable, match="fewer than two groups"):
        LabelFromFile().run(material)
