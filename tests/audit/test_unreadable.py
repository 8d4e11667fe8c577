import numpy as np
import pandas as pd
import pytest

from groundglass.audit.data.counts import Unreadable
from groundglass.audit.material import Material, SmallPictures
from groundglass.errors import ScanError


def material(read, lost):
    """Scans that were read and that were lost, by the names of their files."""
    nothing = np.zeros((len(read), 128, 128), dtype=bool)
    errors = tuple(ScanError(path, "is truncated", "get a new copy") for path in lost)
    looks = SmallPictures(nothing.astype(np.uint8), nothing, nothing, ())
    return Material("made", rows_of(read), looks, errors, rows_of(lost))


def rows_of(paths):
    labels = ["covid" if "covid" in path else "not covid" for path in paths]
    splits = ["test" if "/test/" in path else "train" for path in paths]
    return pd.DataFrame({"path": paths, "label": labels, "patient": "", "split": splits, "source": "made"})


def numbered(folder, count, start=0):
    return [f"/data/{folder}/{number}.png" for number in range(start, start + count)]


def test_nothing_is_reported_if_all_can_be_read():
    result = Unreadable().run(material(numbered("covid", 3), []))
    assert result.severity is None
    assert result.figure.value == 0
    assert result.message == "All 3 files can be read."
    assert result.files == result.rows == ()


def test_few_are_worth_a_warning():
    read = numbered("covid", 200) + numbered("other", 199)
    result = Unreadable().run(material(read, ["/data/other/x.png"]))
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(1 / 400)
    assert "1 of 400 files (0.2%)" in result.message
    assert result.files == ("/data/other/x.png",)
    assert result.rows == (("x.png", "is truncated; get a new copy"),)


@pytest.mark.parametrize(("count", "severity"), [(1, "warning"), (2, "error")])
def test_over_one_in_a_hundred_of_a_class_is_an_error_even_if_few_overall(count, severity):
    lost = numbered("covid", count, start=1000)
    result = Unreadable().run(material(numbered("covid", 100 - count) + numbered("other", 900), lost))
    assert result.severity == severity
    assert f"The class covid loses the largest share, {count} of 100" in result.message


def test_the_worst_class_is_that_of_the_largest_share_not_of_the_most_files():
    read = numbered("covid", 1000) + numbered("other", 9)
    result = Unreadable().run(material(read, [*numbered("covid", 5, 2000), "/data/other/x.png"]))
    assert "The class not covid loses the largest share, 1 of 10 (10.0%)" in result.message


def test_a_set_that_cannot_be_read_at_all_is_an_error():
    result = Unreadable().run(material([], numbered("covid", 2)))
    assert result.severity == "error"
    assert result.figure.value == 1


def test_a_part_that_loses_much_is_named():
    read = [*numbered("test/other", 9), *numbered("other", 500), *numbered("covid", 500)]
    result = Unreadable().run(material(read, ["/data/test/other/x.png"]))
    assert result.severity == "error"
    assert "The test set loses the largest share, 1 of 10 (10.0%)" in result.message
