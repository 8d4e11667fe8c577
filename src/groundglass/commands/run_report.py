"""The report of a training run: its curves, and how it does on its validation part."""

import pandas as pd

from groundglass.bundle.facts import Facts
from groundglass.commands.cards import mask_cards, slice_cards
from groundglass.commands.judge import judge
from groundglass.commands.mask_report import overlap_tables, worst_slices
from groundglass.detect.detector import Detector
from groundglass.evaluate import figures
from groundglass.evaluate.figures import to_png
from groundglass.evaluate.overlap import by_case, evaluate_overlap
from groundglass.evaluate.predictions import read_overlaps
from groundglass.files import write_bytes
from groundglass.recipe.recipe import AnyDetectorRecipe
from groundglass.recipe.tasks import FeaturesRecipe, SegmentationRecipe
from groundglass.report.page import Picture, Report, Table, bundle_table, dataset_table, write_report
from groundglass.segment.segmenter import Segmenter, SegmenterBundle
from groundglass.train.run import Run


def write_run_report(run: Run, recipe: AnyDetectorRecipe, detector: Detector) -> None:
    """Write ``report.html`` into a finished run's folder, and ``curves.png`` where it went by epochs."""
    facts = detector.bundle.facts
    judgement = judge(run.predictions_file, facts.threshold, facts.patient_rule)
    if not isinstance(recipe, FeaturesRecipe):
        by = recipe.training.best_by
        best = f"Best epoch {facts.training.best_epoch} by {by}, on the validation part."
        headline = best if by != "last" else f"The last epoch, {facts.training.best_epoch}, was kept."
        marked = "; the best epoch is marked" if by != "last" else ""
        how = [_curves(run, by, f"Training curves{marked}")]
        tables = judgement.tables()
    else:
        headline = f"The classifier is {run.facts()['classifier']}, the best in cross-validation."
        how = []
        tables = [*judgement.tables(), _classifiers(run)]
    report = Report(
        title=f"Training run {recipe.name}",
        headline=headline,
        warnings=[
            "These figures are of the validation part, on which epoch, calibration and threshold were chosen: "
            "they are too good. Only the test part or another hospital tells how good the detector is."
        ],
        figures_of_merit=tables,
        pictures=[*how, *judgement.pictures.values()],
        slices_title="Telling slices of the validation part: the surest errors, then the surest right answers",
        slices_note="Left the slice, right the places that speak for COVID-19, in one scale for all slices.",
        slices=slice_cards(detector, judgement.telling_slices(), judgement.labels()),
        facts=_tables(run, facts),
    )
    write_report(report, run.report_file)


def _curves(run: Run, best_by: str, caption: str) -> Picture:
    """The training curves, which also become ``curves.png``."""
    curves = to_png(figures.curves(pd.read_csv(run.log_file), best_by))
    write_bytes(run.folder / "curves.png", curves)
    return Picture(caption, curves)


def _classifiers(run: Run) -> Table:
    table = pd.read_csv(run.folder / "classifiers.csv")
    rows = [
        (str(row.name), str(row.parameters), f"{row.cv_auc:.3f} ({row.cv_auc_std:.3f})", f"{row.val_auc:.3f}")
        for row in table.itertuples(index=False)
    ]
    header = ("classifier", "parameters", "AUC in cross-validation (deviation)", "validation AUC")
    note = (
        "Parameters and classifier were chosen by cross-validation on the training part, patients together."
    )
    return Table("The classifiers", header, rows, note)


def write_segmenter_report(run: Run, recipe: SegmentationRecipe, bundle: SegmenterBundle) -> None:
    """Write ``curves.png`` and ``report.html`` into the folder of a segmenter's finished run."""
    facts = bundle.facts
    table = read_overlaps(run.folder / "masks.csv")
    marked = "; the epoch that was kept is marked" if recipe.training.best_by != "last" else ""
    report = Report(
        title=f"Training run {recipe.name}",
        headline=f"Epoch {facts.training.best_epoch} of {recipe.training.epochs}, judged on the validation part.",
        warnings=[
            "These figures are of the validation part, on which epoch and threshold were chosen: they are too good."
        ],
        figures_of_merit=overlap_tables(evaluate_overlap(table), by_case(table)),
        pictures=[_curves(run, recipe.training.best_by, f"Training curves{marked}")],
        slices_title="The slices with the least lesion Dice",
        slices_note="Left the slice, right the contours of the lungs and the lesions in colour.",
        slices=mask_cards(Segmenter(bundle), worst_slices(table)),
        facts=_tables(run, facts),
    )
    write_report(report, run.report_file)


def _tables(run: Run, facts: Facts) -> list[Table]:
    about = [dataset_table(part.dataset) for part in run.recipe().data.datasets]
    recipe = Table("The recipe", (), [("recipe.yaml", run.recipe_file.read_text())])
    return [*filter(None, about), bundle_table(facts), recipe]
