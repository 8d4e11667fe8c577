"""The report of a training run: its curves, and how it does on its validation part."""

import pandas as pd

from groundglass.detect.detector import Detector
from groundglass.evaluate import figures
from groundglass.files import write_bytes
from groundglass.jobs.cards import slice_cards
from groundglass.jobs.judge import judge
from groundglass.report.facts import dataset_table, detector_table
from groundglass.report.page import Picture, Report, Table, write_report
from groundglass.train.run import Run


def write_run_report(run: Run, detector: Detector) -> None:
    """Write ``curves.png`` and ``report.html`` into a finished run's folder."""
    recipe, facts = run.recipe(), detector.bundle.facts
    curves = figures.to_png(figures.curves(pd.read_csv(run.log_file), recipe.training.best_by))
    write_bytes(run.folder / "curves.png", curves)
    judgement = judge(run.predictions_file, facts.threshold)
    tables = [detector_table(facts), Table("The recipe", (), [("recipe.yaml", run.recipe_file.read_text())])]
    if (about := dataset_table(facts.training.dataset)) is not None:
        tables.insert(0, about)
    report = Report(
        title=f"Training run {recipe.name}",
        headline=f"Best epoch {facts.training.best_epoch} by {recipe.training.best_by}, on the validation part.",
        warnings=[
            "These figures are of the validation part, on which epoch, calibration and threshold were chosen: "
            "they are too good. Only the test part or another hospital tells how good the detector is."
        ],
        figures_of_merit=[judgement.table()],
        pictures=[
            Picture("Training curves; the best epoch is marked", curves),
            *judgement.pictures.values(),
        ],
        slices_title="Telling slices of the validation part: the surest errors, then the surest right answers",
        slices_note="Left the slice, right the places that speak for COVID-19, in one scale for all slices.",
        slices=slice_cards(detector, judgement.telling_slices(), judgement.labels()),
        facts=tables,
    )
    write_report(report, run.report_file)
