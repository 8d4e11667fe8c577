"""The report of a training run: its curves, and its performance on the validation set."""

from typing import Any

import pandas as pd

from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.evaluation import figures
from groundglass.evaluation.overlap import by_case, evaluate_overlap
from groundglass.evaluation.predictions import read_overlaps
from groundglass.files import write_bytes
from groundglass.report.page import Picture, Report, Table, bundle_table, dataset_table, write_report
from groundglass.report.predictions import drawn_picture, evaluate_predictions
from groundglass.report.slices import mask_cards, overlap_tables, slice_cards, worst_slices
from groundglass.segment.segmenter import Segmenter, SegmenterBundle
from groundglass.train.run import Run
from groundglass.train.task import Task


def write_run_report(run: Run, task: Task[Any], bundle: Bundle | SegmenterBundle) -> None:
    """Write ``report.html`` into a finished run's folder, and ``curves.png`` if it was trained in epochs."""
    about = [dataset_table(part.dataset) for part in task.recipe.data.datasets]
    recipe = Table("The recipe", (), [("recipe.yaml", run.recipe_file.read_text())])
    content = _segmenter(run, bundle) if isinstance(bundle, SegmenterBundle) else _detector(run, bundle)
    report = Report(
        title=f"Training run {task.recipe.name}",
        headline=task.headline(run),
        facts=[*filter(None, about), bundle_table(bundle.facts), recipe],
        **{
            **content,
            "figures_of_merit": [*content["figures_of_merit"], *task.tables(run)],
            "pictures": [*_curves(run, task.best_by), *content["pictures"]],
        },
    )
    write_report(report, run.report_file)


def _detector(run: Run, bundle: Bundle) -> dict[str, Any]:
    """The parts of a report that only a detector has."""
    evaluated = evaluate_predictions(run.predictions_file, bundle.facts.threshold, bundle.facts.patient_rule)
    return {
        "warnings": [
            "These figures are from the validation set, on which epoch, calibration and threshold were chosen: "
            "they are too optimistic. Only the test set or another hospital shows how well the detector "
            "performs."
        ],
        "figures_of_merit": evaluated.tables(),
        "pictures": list(evaluated.pictures.values()),
        "slices_title": "Slices of the validation set: the most confident errors, then the most confident "
        "correct answers",
        "slices_note": "Left: the slice. Right: the areas that point to COVID-19, on the same scale "
        "for all slices.",
        "slices": slice_cards(Detector(bundle), evaluated.telling_slices(), evaluated.labels()),
    }


def _segmenter(run: Run, bundle: SegmenterBundle) -> dict[str, Any]:
    """The parts of a report that only a segmenter has."""
    table = read_overlaps(run.folder / "masks.csv")
    return {
        "warnings": [
            "These figures are from the validation set, on which epoch and threshold were chosen: they are too "
            "optimistic."
        ],
        "figures_of_merit": overlap_tables(evaluate_overlap(table), by_case(table)),
        "pictures": [],
        "slices_title": "The slices with the lowest lesion Dice",
        "slices_note": "Left: the slice. Right: the contours of the lungs, and the lesions in colour.",
        "slices": mask_cards(Segmenter(bundle), worst_slices(table)),
    }


def _curves(run: Run, best_by: str | None) -> list[Picture]:
    """The training curves, which also become ``curves.png``; none if there were no epochs."""
    if best_by is None:
        return []
    marked = "; the epoch that was kept is marked" if best_by != "last" else ""
    curves = figures.curves(pd.read_csv(run.log_file), best_by)
    picture = drawn_picture(f"Training curves{marked}", curves)
    write_bytes(run.folder / "curves.png", picture.png)
    return [picture]
