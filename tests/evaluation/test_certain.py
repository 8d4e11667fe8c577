import numpy as np
import pandas as pd
import pytest

from groundglass.errors import GroundglassError
from groundglass.evaluation.operating_point import certainty, most_certain_accuracy


def predictions(*rows: tuple[float, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["probability", "label"])


def test_certainty_is_a_share_of_the_way_on_its_side() -> None:
    found = certainty([0, 0.1, 0.2, 0.6, 1], threshold=0.2)
    np.testing.assert_allclose(found, [1, 0.5, 0, 0.5, 1])


def test_a_threshold_at_an_end_leaves_no_way_to_go() -> None:
    np.testing.assert_allclose(certainty([0.25, 1], threshold=1), [0.75, 0])
    np.testing.assert_allclose(certainty([0, 0.25], threshold=0), [0, 0.25])


def test_the_least_certain_fifth_does_not_count() -> None:
    rows = [(0.99, "covid"), (0.9, "covid"), (0.05, "normal"), (0.8, "normal"), (0.55, "normal")]
    assert most_certain_accuracy(predictions(*rows), 0.5) == 3 / 4
    assert most_certain_accuracy(predictions(*rows), 0.5, share=1) == 3 / 5


def test_certainty_counts_from_the_threshold_and_not_from_a_half() -> None:
    """From 0.1 up to 0.5 is a smaller share of the distance than from 0.1 down to 0.01."""
    rows = [(0.5, "normal"), (0.01, "normal")]
    assert most_certain_accuracy(predictions(*rows), 0.1, share=0.5) == 1


def test_the_order_of_equally_certain_slices_plays_no_part() -> None:
    rows = [(0.9, "covid"), (0.9, "normal"), (0.9, "covid"), (0.9, "covid"), (0.1, "normal")]
    for order in (rows, rows[::-1]):
        assert most_certain_accuracy(predictions(*order), 0.5) == pytest.approx(0.8)


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(GroundglassError, match="at most 1"):
        most_certain_accuracy(predictions((0.5, "covid")), 0.5, share)


def test_no_predictions_are_refused() -> None:
    with pytest.raises(GroundglassError, match="no predictions"):
        most_certain_accuracy(predictions(), 0.5)
