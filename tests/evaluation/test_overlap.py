import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from groundglass.errors import GroundglassError
from groundglass.evaluation.overlap import (
    OVERLAP_METRICS,
    OverlapEvaluation,
    by_case,
    evaluate_overlap,
    lesion_shares,
)
from groundglass.evaluation.predictions import OVERLAP_COLUMNS, check_overlaps, read_overlaps, write_overlaps

HEADER = "path,case,structure,true_px,predicted_px,common_px,hd95\n"
GOOD = "a.png,p1,lungs,10,10,8,1.5\n"

# Two cases of two slices; the second case has no lesions.
BY_HAND = [
    ("a.png", "p1", "lungs", 100, 100, 90, 2.0),
    ("b.png", "p1", "lungs", 100, 100, 70, 4.0),
    ("c.png", "p2", "lungs", 100, 50, 50, 5.0),
    ("d.png", "p2", "lungs", 0, 0, 0, None),
    ("a.png", "p1", "lesions", 20, 10, 5, 7.0),
    ("b.png", "p1", "lesions", 0, 10, 0, None),
    ("c.png", "p2", "lesions", 0, 0, 0, None),
    ("d.png", "p2", "lesions", 0, 0, 0, None),
]


def frame_of(rows: list[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(OVERLAP_COLUMNS))


def random_masks(cases: int, seed: int = 0, slices: int = 6) -> pd.DataFrame:
    """Counts as from masks, some of them empty; cases differ in quality."""
    generator = np.random.default_rng(seed)
    rows = []
    for case in range(cases):
        skill = generator.uniform(0.5, 0.98)
        for number in range(int(generator.integers(1, slices + 1))):
            for structure, size in (("lungs", 9000), ("lesions", 400)):
                true = int(size * generator.uniform(0.3, 1)) * (
                    structure == "lungs" or generator.random() < 0.6
                )
                common = int(true * skill) * (generator.random() < 0.9)
                predicted = common + int(size * 0.1 * generator.random()) * (generator.random() < 0.8)
                distance = generator.exponential(4) if true and predicted else None
                name = f"{case}-{number}.png"
                rows.append((name, f"p{case}", structure, true, predicted, common, distance))
    return frame_of(rows)


def written(folder: Path, text: str) -> Path:
    path = folder / "masks.csv"
    path.write_text(text, encoding="utf-8")
    return path


def values(evaluation: OverlapEvaluation, part: str) -> dict[str, float | None]:
    return {name: estimate.value for name, estimate in evaluation.parts[part].metrics.items()}


def test_metrics_by_hand():
    result = evaluate_overlap(frame_of(BY_HAND), resamples=50)
    assert (result.cases, result.slices) == (2, 4)
    assert values(result, "lungs") == pytest.approx(
        {
            "dice": (320 / 400 + 100 / 150) / 2,
            "pooled_dice": 420 / 550,
            "slice_dice": (0.9 + 0.7 + 100 / 150 + 1) / 4,
            "hd95": (3 + 5) / 2,
            "sensitivity": (160 / 200 + 50 / 100) / 2,
            "precision": (160 / 200 + 50 / 50) / 2,
        }
    )
    assert values(result, "lesions") == pytest.approx(
        {
            "dice": (10 / 40 + 1) / 2,
            "pooled_dice": 10 / 40,
            "slice_dice": (10 / 30 + 0 + 1 + 1) / 4,
            "hd95": 7,
            "sensitivity": 5 / 20,
            "precision": 5 / 20,
        }
    )
    # Case p1: 20 / 200 true, 20 / 200 predicted; p2 has no lesions.
    assert values(result, "lesion_share") == pytest.approx({"mean_absolute_error": 0, "bias": 0})
    assert result.notes[:5] == (
        "Only 2 cases: intervals from so few are rough.",
        "HD95 of lungs leaves out 1 of 4 slices: 1 without lungs in either mask.",
        "HD95 of lesions leaves out 3 of 4 slices: 2 without lesions in either mask, 1 where there are none to "
        "find.",
        "Without true lesions: 1 of 2 cases. The Dice of such a case is 1 if none are predicted, else 0; it is "
        "left out of sensitivity.",
        "Without predicted lesions, and left out of precision: 1 of 2 cases.",
    )


def test_the_share_of_the_lungs_and_its_sign():
    rows = [
        ("a.png", "p1", "lungs", 100, 80, 80, 1),
        ("a.png", "p1", "lesions", 10, 16, 10, 1),
        ("b.png", "p2", "lungs", 200, 200, 200, 0),
        ("b.png", "p2", "lesions", 60, 20, 20, 1),
        ("c.png", "p2", "lungs", 999, 999, 999, 0),
        ("d.png", "p3", "lungs", 50, 0, 0, None),
        ("d.png", "p3", "lesions", 5, 0, 0, None),
    ]
    shares = lesion_shares(frame_of(rows)).set_index("case")
    assert shares.loc["p1"].tolist() == pytest.approx([1, 0.1, 0.2])
    assert shares.loc["p2"].tolist() == pytest.approx([1, 0.3, 0.1])
    assert np.isnan(shares.loc["p3", "predicted_share"])
    result = evaluate_overlap(frame_of(rows), resamples=50)
    assert values(result, "lesion_share") == pytest.approx({"mean_absolute_error": 0.15, "bias": -0.05})
    assert "The lesion share leaves out 1 slice with one structure only." in result.notes
    assert "The lesion share leaves out 1 case without lungs to compare with." in result.notes


def test_a_row_a_case_and_structure():
    table = by_case(frame_of(BY_HAND))
    assert table[["case", "structure"]].to_numpy().tolist() == [
        ["p1", "lungs"],
        ["p2", "lungs"],
        ["p1", "lesions"],
        ["p2", "lesions"],
    ]
    assert table.loc[1, ["slices", "true_px", "predicted_px", "common_px", "hd95_slices"]].tolist() == [
        2,
        100,
        50,
        50,
        1,
    ]
    assert table["dice"].tolist() == pytest.approx([0.8, 2 / 3, 0.25, 1])
    assert table["sensitivity"].tolist() == pytest.approx([0.8, 0.5, 0.25, np.nan], nan_ok=True)


def test_the_metrics_are_those_of_masks():
    generator = np.random.default_rng(1)
    truth, guess = generator.random((2, 12, 9, 9)) < 0.4
    truth[3] = guess[3] = guess[5] = False
    case = np.repeat([0, 1, 2], [5, 4, 3])
    rows = []
    for number, (true, predicted) in enumerate(zip(truth, guess, strict=True)):
        distance = 1 if true.any() and predicted.any() else None
        counts = (true.sum(), predicted.sum(), (true & predicted).sum())
        rows.append((f"{number}.png", f"p{case[number]}", "lesions", *counts, distance))
    found = values(evaluate_overlap(frame_of(rows), resamples=5), "lesions")
    volumes = [(truth[case == number], guess[case == number]) for number in range(3)]
    assert found["dice"] == pytest.approx(
        np.mean([2 * (t & p).sum() / (t.sum() + p.sum()) for t, p in volumes])
    )
    assert found["pooled_dice"] == pytest.approx(2 * (truth & guess).sum() / (truth.sum() + guess.sum()))
    assert found["sensitivity"] == pytest.approx(np.mean([p[t].mean() for t, p in volumes]))
    assert found["precision"] == pytest.approx(np.mean([t[p].mean() for t, p in volumes]))


def test_equal_masks_are_perfect_without_width():
    rows = [
        (f"{number}.png", f"p{number}", name, size, size, size, 0.0)
        for number in range(12)
        for name, size in (("lungs", 100 + number), ("lesions", 10))
    ]
    result = evaluate_overlap(frame_of(rows), resamples=50)
    for part in ("lungs", "lesions"):
        for name, estimate in result.parts[part].metrics.items():
            best = 0 if name == "hd95" else 1
            assert (estimate.value, estimate.low, estimate.high) == (best, best, best)
    assert set(values(result, "lesion_share").values()) == {0}
    assert result.notes == ()


def test_where_all_masks_are_empty_there_is_agreement_and_nothing_to_measure():
    rows = [(f"{number}.png", f"p{number}", "lesions", 0, 0, 0, None) for number in range(12)]
    result = evaluate_overlap(frame_of(rows), resamples=20)
    found = values(result, "lesions")
    assert found["dice"] == found["slice_dice"] == 1
    assert [found[name] for name in ("pooled_dice", "hd95", "sensitivity", "precision")] == [None] * 4
    assert list(result.parts) == ["lesions"]
    assert "lesion HD95, mean over cases is undefined: no slice has both masks." in result.notes
    assert dict(result.rows())["lesion HD95, mean over cases"] == "undefined"


def test_intervals_are_repeatable_and_hold_the_estimate():
    frame = random_masks(40)
    result = evaluate_overlap(frame, resamples=400, seed=3)
    assert result == evaluate_overlap(frame, resamples=400, seed=3)
    assert result.parts != evaluate_overlap(frame, resamples=400, seed=4).parts
    for part, metrics in OVERLAP_METRICS.items():
        assert list(result.parts[part].metrics) == list(metrics)
        for estimate in result.parts[part].metrics.values():
            assert estimate.low < estimate.value < estimate.high
    narrower = evaluate_overlap(frame, resamples=400, seed=3, confidence=0.5).parts["lungs"].metrics["dice"]
    dice = result.parts["lungs"].metrics["dice"]
    assert dice.low < narrower.low < narrower.high < dice.high


def test_the_intervals_are_those_of_a_plain_bootstrap_over_cases():
    frame = random_masks(25, seed=5)
    metrics = evaluate_overlap(frame, resamples=2000).parts["lesions"].metrics
    cases = by_case(frame).query("structure == 'lesions'").reset_index(drop=True)
    generator = np.random.default_rng(7)
    drawn = [cases.iloc[generator.integers(len(cases), size=len(cases))] for _ in range(1000)]
    samples = {name: [draw[name].mean() for draw in drawn] for name in ("dice", "hd95", "sensitivity")}
    sums = [draw[["common_px", "true_px", "predicted_px"]].sum() for draw in drawn]
    samples["pooled_dice"] = [2 * common / (true + predicted) for common, true, predicted in sums]
    samples["slice_dice"] = [np.average(draw["slice_dice"], weights=draw["slices"]) for draw in drawn]
    for name, sample in samples.items():
        low, high = np.quantile(sample, [0.025, 0.975])
        near = pytest.approx((low, high), abs=0.1 * (high - low))
        assert (metrics[name].low, metrics[name].high) == near, name


def test_slices_of_one_case_do_not_narrow_the_interval():
    frame = random_masks(15, seed=2)
    copies = pd.concat([frame.assign(path=frame["path"] + f"#{number}") for number in range(8)])
    one = evaluate_overlap(frame, resamples=300).parts["lungs"].metrics
    many = evaluate_overlap(copies, resamples=300).parts["lungs"].metrics
    for name, estimate in one.items():
        assert (many[name].low, many[name].high) == pytest.approx((estimate.low, estimate.high)), name


def test_one_case_has_no_interval():
    result = evaluate_overlap(frame_of([row for row in BY_HAND if row[1] == "p1"]), resamples=20)
    metrics = [estimate for part in result.parts.values() for estimate in part.metrics.values()]
    assert all(estimate.low is None and estimate.high is None for estimate in metrics)
    assert result.notes[0] == "All slices are of one case: no interval can be given."
    rows = dict(result.rows())
    assert rows["lung Dice, mean over cases"] == "0.800"
    assert rows["intervals"] == "none"


def test_what_only_one_of_many_cases_defines_has_no_interval_either():
    frame = random_masks(12)
    lesions = frame["structure"] == "lesions"
    frame = frame[~lesions | (frame["case"] == "p0")]
    result = evaluate_overlap(frame, resamples=50)
    assert result.parts["lungs"].metrics["dice"].low is not None
    assert result.parts["lesions"].cases == 1
    assert result.parts["lesions"].metrics["dice"].low is None
    assert "Only 1 case with masks of lesions: intervals from so few are rough." in result.notes


def test_metrics_that_many_resamples_lack_are_noted():
    rows = [(f"{number}.png", f"p{number}", "lesions", 5, 0, 0, None) for number in range(18)]
    rows += [
        (f"x{number}.png", f"x{number}", "lesions", 5, 4, 3 + number, 2.0 + number) for number in range(2)
    ]
    result = evaluate_overlap(frame_of(rows), resamples=500)
    noted = [note for note in result.notes if "of the resamples" in note]
    assert [note.split(" is undefined in 1")[0] for note in noted] == [
        "lesion HD95, mean over cases",
        "lesion precision, mean over cases",
    ]


def test_rows_of_text():
    rows = evaluate_overlap(random_masks(30), resamples=100).rows()
    titles = [metric.title for metrics in OVERLAP_METRICS.values() for metric in metrics.values()]
    assert [name for name, _ in rows[1:-1]] == titles
    assert rows[-1] == ("intervals", "95%, 100 bootstrap resamples of 30 cases")
    texts = dict(rows)
    assert texts["cases and slices"].startswith("30, ")
    number = r"-?\d+\.\d"
    for name, pattern in {
        "lung Dice, mean over cases": r"0\.\d{3} \(0\.\d{3} to 0\.\d{3}\)",
        "lesion HD95, mean over cases": rf"{number} px \({number} to {number}\)",
        "lesion share, bias": rf"{number} percentage points \({number} to {number}\)",
    }.items():
        assert re.fullmatch(pattern, texts[name]), texts[name]


def test_a_small_bias_is_not_shown_as_minus_zero():
    rows = [("a.png", "p", "lungs", 9999, 9999, 9999, 0), ("a.png", "p", "lesions", 101, 100, 100, 0)]
    result = evaluate_overlap(frame_of(rows), resamples=5)
    assert result.parts["lesion_share"].metrics["bias"].value < 0
    assert dict(result.rows())["lesion share, bias"] == "0.0 percentage points"


def test_the_result_survives_json():
    result = evaluate_overlap(random_masks(4), resamples=20)
    assert OverlapEvaluation.model_validate(json.loads(json.dumps(result.to_dict()))) == result


def test_what_is_written_is_read_back(tmp_path):
    frame = frame_of(BY_HAND).assign(case=["007"] * 2 + ["NA"] * 2 + ["007"] * 2 + ["NA"] * 2, model="x")
    write_overlaps(tmp_path / "masks.csv", frame)
    back = read_overlaps(tmp_path / "masks.csv")
    pd.testing.assert_frame_equal(back, check_overlaps(frame), check_dtype=False)
    assert back["case"].tolist()[:3] == ["007", "007", "NA"]
    assert [str(back[name].dtype) for name in ("true_px", "hd95")] == ["int64", "float64"]
    assert (tmp_path / "masks.csv").read_text().splitlines()[4] == "d.png,NA,lungs,0,0,0,,x"


def test_a_faulty_table_is_not_written(tmp_path):
    with pytest.raises(GroundglassError, match=r"masks\.csv: common_px exceeds"):
        write_overlaps(tmp_path / "masks.csv", frame_of([("a.png", "p", "lungs", 5, 5, 6, 0)]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV"),
        (HEADER, "holds no masks"),
        (HEADER.replace(",hd95", ""), "has no column hd95; masks have the columns path, case"),
        (HEADER + ",p1,lungs,1,1,1,0\n", "path is blank in row 2"),
        (HEADER + GOOD + "\nb.png,,lungs,1,1,1,0\n", "case is blank in row 4 (got ''); name the patient"),
        (
            HEADER + "a.png,p1,lung,1,1,1,0\n",
            "structure is none of 'lungs', 'lesions' in row 2 (got 'lung')",
        ),
        (HEADER + GOOD + GOOD, "path occurs twice with one structure in row 3 (got 'a.png')"),
        (
            HEADER + GOOD + "a.png,p2,lesions,1,1,1,0\n",
            "case differs between rows of one path in rows 2, 3 (got 'p1'); a slice belongs to one case",
        ),
        (HEADER + "a.png,p1,lungs,-1,1,1,0\n", "true_px is not a whole number in row 2 (got '-1'); count"),
        (HEADER + "a.png,p1,lungs,1,1.5,1,0\n", "predicted_px is not a whole number in row 2 (got '1.5')"),
        (HEADER + "a.png,p1,lungs,1,,0,\n", "predicted_px is not a whole number in row 2 (got '')"),
        (HEADER + "a.png,p1,lungs,inf,1,1,0\n", "true_px is not a whole number in row 2 (got 'inf')"),
        (HEADER + "a.png,p1,lungs,9,8,many,0\n", "common_px is not a whole number in row 2 (got 'many')"),
        (HEADER + "a.png,p1,lungs,9,8,9,0\n", "common_px exceeds true_px or predicted_px in row 2 (got '9')"),
        (HEADER + "a.png,p1,lungs,9,9,9,-1\n", "hd95 is not a distance in row 2 (got '-1'); give a distance"),
        (HEADER + "a.png,p1,lungs,9,9,9,nan\n", "hd95 is not a distance in row 2 (got 'nan')"),
        (HEADER + "a.png,p1,lungs,9,9,9,inf\n", "hd95 is not a distance in row 2 (got 'inf')"),
        (HEADER + "a.png,p1,lungs,9,9,9,\n", "hd95 is blank although neither mask is empty in row 2"),
        (HEADER + "a.png,p1,lungs,9,0,0,3\n", "hd95 is given although one of the masks is empty in row 2"),
        (HEADER + "a.png,p1,lungs,9,9,9\n", "hd95 is blank although"),
        (HEADER + GOOD + GOOD.strip() + ",more\n", "cannot be read as CSV"),
        (HEADER + ",p1,lungs,1,1,1,0\n" * 7, "in rows 2, 3, 4, 5, 6 and 2 more"),
    ],
)
def test_each_fault_is_named_with_file_column_and_row(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(GroundglassError) as error:
        read_overlaps(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_files_that_are_missing_or_no_text_are_named(tmp_path):
    with pytest.raises(GroundglassError, match=r"none\.csv: there is no such file"):
        read_overlaps(tmp_path / "none.csv")
    with pytest.raises(GroundglassError, match="cannot be read as CSV"):
        read_overlaps(tmp_path)
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(GroundglassError, match=r"picture\.csv: cannot be read as CSV"):
        read_overlaps(tmp_path / "picture.csv")


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}])
def test_a_bootstrap_that_cannot_be_is_refused(wrong):
    with pytest.raises(GroundglassError, match="at least 1 resample"):
        evaluate_overlap(frame_of(BY_HAND), **wrong)
