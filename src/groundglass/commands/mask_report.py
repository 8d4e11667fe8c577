"""How a segmenter's masks overlap with the truth, as tables and pictures of a report."""

from pathlib import Path

import pandas as pd

from groundglass.bundle.evaluation import OverlapEvaluation
from groundglass.report.page import Table

SHOWN = 24
"""Slices that a report shows."""


def overlap_tables(evaluation: OverlapEvaluation, cases: pd.DataFrame) -> list[Table]:
    """The figures with their intervals, and Dice and distance of each case."""
    figures = Table("Masks against the truth", ("figure", "value (95% interval)"), evaluation.rows())
    by_case = [
        (row["case"], row["structure"], str(row["slices"]), f"{row['dice']:.3f}", _distance(row["hd95"]))
        for row in cases.to_dict("records")
    ]
    header = ("case", "structure", "slices", "Dice", "HD95 in pixels, mean over slices")
    return [figures, Table("Case by case", header, by_case, " ".join(evaluation.notes))]


def worst_slices(table: pd.DataFrame) -> list[Path]:
    """The slices with the least lesion Dice, worst first; those without lesions in either mask are left out."""
    both = table["true_px"] + table["predicted_px"]
    lesions = table[(table["structure"] == "lesions") & (both > 0)]
    dice = 2 * lesions["common_px"] / both
    return [Path(path) for path in lesions.assign(dice=dice).nsmallest(SHOWN, "dice")["path"]]


def _distance(pixels: float) -> str:
    return "" if pd.isna(pixels) else f"{pixels:.1f}"
