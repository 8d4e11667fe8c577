from io import StringIO

import numpy as np
import pandas as pd
import pytest

from groundglass.bundle.evaluation import METRICS, Estimate
from groundglass.errors import GroundglassError
from groundglass.evaluation.comparison import (
    BEST,
    BETTER,
    ENSEMBLE,
    INDISTINGUISHABLE,
    UNTESTED,
    WORSE,
    Comparison,
    SystemResult,
)
from groundglass.evaluation.comparison_report import (
    comparison_frame,
    comparison_table,
    format_p,
    headline,
    markdown_table,
)
from groundglass.evaluation.paired import PairedTest


def standing(
    name: str,
    auc: float,
    verdict: str,
    auc_test: PairedTest | None = None,
    auc_p: float | None = None,
    member_aucs: tuple[float, ...] = (0.8, 0.9),
) -> SystemResult:
    metrics = dict.fromkeys(METRICS, Estimate(value=0.7, low=0.6, high=0.8))
    metrics["roc_auc"] = Estimate(value=auc, low=auc - 0.05, high=auc + 0.05)
    metrics["f1"] = Estimate(value=None)
    accuracy_test = None if auc_test is None else PairedTest(-0.02, -0.0604, 0.0204, 0.33)
    accuracy_p = None if auc_test is None else 0.66
    return SystemResult(
        name, len(member_aucs), metrics, member_aucs, auc_test, accuracy_test, auc_p, accuracy_p, verdict
    )


def comparison(*standings: SystemResult) -> Comparison:
    empty = pd.DataFrame()
    return Comparison(
        standings,
        standings[0].name,
        "slice",
        100,
        40,
        30,
        "patient",
        2000,
        0.95,
        0,
        0.05,
        empty,
        empty,
        empty,
        (),
    )


FIRST = standing("first", 0.9, BEST, member_aucs=(0.91, 0.884, 0.9))
ALIKE = standing("alike", 0.87, INDISTINGUISHABLE, PairedTest(0.031, -0.0081, 0.07, 0.12), 0.24)
LESS = standing("less", 0.6, WORSE, PairedTest(0.3, 0.2, 0.4, 0.0001), 0.0002, member_aucs=(0.6,))
UNKNOWN = standing("unknown", 0.5, UNTESTED, PairedTest(0.4, np.nan, np.nan, np.nan))
TOGETHER = standing(
    ENSEMBLE, 0.93, BETTER, PairedTest(-0.03, -0.05, -0.0104, 0.01), 0.043, member_aucs=(0.93,)
)


def test_a_row_holds_values_intervals_and_the_test_in_words():
    header, rows = comparison_table(comparison(FIRST, ALIKE, LESS, TOGETHER))
    by_column = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["System"] for row in by_column] == ["first", "alike", "less", ENSEMBLE]
    assert by_column[0] == {
        "System": "first",
        "AUC": "0.90 (0.85 to 0.95)",
        "AUC by member": "0.88 to 0.91",
        "Accuracy": "0.70 (0.60 to 0.80)",
        "Sensitivity": "0.70 (0.60 to 0.80)",
        "Specificity": "0.70 (0.60 to 0.80)",
        "F1": "undefined",
        "AUC against the best": "best",
        "Accuracy against the best": "",
    }
    assert [row["AUC by member"] for row in by_column[1:]] == ["0.80 to 0.90", "0.60", ""]
    assert [row["AUC against the best"] for row in by_column[1:]] == [
        "lower by 0.031 (-0.008 to 0.070), p = 0.24: indistinguishable from the best",
        "lower by 0.300 (0.200 to 0.400), p < 0.001: worse than the best",
        "higher by 0.030 (0.010 to 0.050), p = 0.043: better than the best",
    ]
    assert by_column[1]["Accuracy against the best"] == "higher by 0.020 (-0.020 to 0.060), p = 0.66"


def test_what_is_not_tested_says_so():
    without = standing("without", 0.6, UNTESTED)
    _, rows = comparison_table(comparison(FIRST, UNKNOWN, without))
    assert [row[-2:] for row in rows[1:]] == [
        ("lower by 0.400, not tested", "higher by 0.020 (-0.020 to 0.060), p = 0.66"),
        ("not tested", "not tested"),
    ]


def test_further_columns_follow_in_order_of_first_appearance():
    extra = {"first": {"Parameters": "11 M"}, "less": {"Slices/s": "40", "Parameters": "2 M"}}
    header, rows = comparison_table(comparison(FIRST, LESS, TOGETHER), extra)
    assert header[-2:] == ("Parameters", "Slices/s")
    assert [row[-2:] for row in rows] == [("11 M", ""), ("2 M", "40"), ("", "")]
    frame = comparison_frame(comparison(FIRST, LESS, TOGETHER), extra)
    assert list(frame.columns[-2:]) == ["Parameters", "Slices/s"]
    assert frame["Slices/s"].isna().tolist() == [True, False, True]
    for write in (comparison_table, comparison_frame):
        with pytest.raises(GroundglassError, match="other: not among the systems compared"):
            write(comparison(FIRST, LESS), {"other": {"Parameters": "1"}})


def test_markdown_escapes_what_would_break_the_table():
    written = markdown_table(("System", "Loss"), [("a|b", "0.3"), ("c\nd", "")])
    assert written == "| System | Loss |\n| --- | --- |\n| a\\|b | 0.3 |\n| c d |  |\n"


def test_the_frame_holds_plain_numbers_that_survive_a_csv():
    frame = comparison_frame(comparison(FIRST, ALIKE, TOGETHER))
    read = pd.read_csv(StringIO(frame.to_csv(index=False))).set_index("system")
    assert read.loc["first", ["members", "roc_auc", "roc_auc_low", "roc_auc_high"]].tolist() == pytest.approx(
        [3, 0.9, 0.85, 0.95]
    )
    assert read.loc["first", ["roc_auc_least", "roc_auc_greatest"]].tolist() == [0.884, 0.91]
    assert read.loc["alike", [f"auc_{of}" for of in ("difference", "p", "p_holm")]].tolist() == [
        0.031,
        0.12,
        0.24,
    ]
    assert read.loc["alike", ["auc_difference_low", "auc_difference_high"]].tolist() == [-0.0081, 0.07]
    assert read.loc["alike", ["accuracy_difference", "accuracy_p", "accuracy_p_holm"]].tolist() == [
        -0.02,
        0.33,
        0.66,
    ]
    assert read.loc["first", ["auc_difference", "auc_p_holm", "accuracy_p", "f1"]].isna().all()
    assert read["verdict"].tolist() == [BEST, INDISTINGUISHABLE, BETTER]
    assert set(METRICS) <= set(read.columns)


@pytest.mark.parametrize(
    ("standings", "sentence"),
    [
        (
            (FIRST, ALIKE, LESS, TOGETHER),
            "Best by AUC: first, 0.90 (0.85 to 0.95); indistinguishable from it: alike; "
            "the ensemble, 0.93 (0.88 to 0.98), is better than the best.",
        ),
        (
            (FIRST, ALIKE),
            "Best by AUC: first, 0.90 (0.85 to 0.95); every other is indistinguishable from it: alike.",
        ),
        ((FIRST, LESS), "Best by AUC: first, 0.90 (0.85 to 0.95); every other is worse."),
        (
            (FIRST, LESS, UNKNOWN),
            "Best by AUC: first, 0.90 (0.85 to 0.95); not tested against it: unknown.",
        ),
        ((FIRST,), "first, 0.90 (0.85 to 0.95) by AUC, compared with no other."),
    ],
)
def test_the_headline_names_the_best_and_its_equals(standings, sentence):
    assert headline(comparison(*standings)) == sentence


@pytest.mark.parametrize(
    ("p_value", "words"),
    [
        (0.0004, "p < 0.001"),
        (0.001, "p = 0.001"),
        (0.043, "p = 0.043"),
        (0.214, "p = 0.21"),
        (1.0, "p = 1.00"),
    ],
)
def test_p_values_in_words(p_value, words):
    assert format_p(p_value) == words
