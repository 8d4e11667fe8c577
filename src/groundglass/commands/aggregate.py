"""``groundglass aggregate``: choose, on labelled patients, how a patient's answer follows from those for slices."""

from pathlib import Path

from groundglass.commands.evaluate import Labelled, choose_rows, predict_rows
from groundglass.detect.abstention import COVERAGE
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.evaluation.patient_rules import Aggregation, LabelledPatients, choose_rule
from groundglass.evaluation.predictions import read_predictions
from groundglass.files import write_json
from groundglass.report.page import Report, Table, bundle_table, write_report

COLUMNS = ("aggregation", "features", "log loss, standard error", "ROC AUC")


def aggregate(
    detector: Detector,
    dataset: str,
    folder: Path,
    *,
    part: str | None = None,
    least_slices: int = 5,
    seed: int = 0,
    coverage: float | None = COVERAGE,
    record: Bundle | None = None,
    setting: str | None = None,
) -> Aggregation:
    """Choose an aggregation and fit it.

    See :func:`groundglass.evaluation.patient_rules.choose_rule`.

    Parameters
    ----------
    detector
        A detector with a segmenter.
    dataset
        Labelled slices with patients, or groups instead of them; preferably none that the detector was
        trained on.
    folder
        Where to write ``aggregation.json`` and ``report.html``.
    part
        Part of the dataset; by default all of an external one, and the validation set of the detector's own.
    least_slices
        Patients with fewer slices that show lungs are left out: the rule is for volumes.
    seed
        Draws the folds.
    coverage
        The share of each class whose right answer must remain possible: the rule answers ``uncertain`` if
        needed for that (groundglass.detect.abstention), according to the out-of-fold answers. With None it
        always answers.
    record
        A bundle to record the rule in, with its card: the detector's own, or that of a detector trained in
        the same way on more sources including this one. Another network's logits have a different scale, so
        only aggregations of lesions are then candidates.
    setting
        The setting of ``record`` that the rule is for; needed if it knows any.

    Raises
    ------
    GroundglassError
        If the setting is missing or unknown, the detector has no segmenter, the part is the detector's own test
        set, or there are too few patients.
    """
    if record is not None:
        record.check_enterable()
        _check_same_lesions(record, detector.bundle)
        if (setting or "") not in (list(record.facts.settings) or [""]):
            known = ", ".join(record.facts.settings) or "none"
            raise GroundglassError(
                f"{record.source}: name the setting of the rule with --setting; it knows {known}"
            )
    labelled = _rows(detector, dataset, part)
    predict_rows(detector, labelled.rows, folder / "predictions.csv", labelled.name)
    slices = read_predictions(folder / "predictions.csv")
    own = "" if labelled.external else ", of the training dataset"
    result = choose_rule(
        LabelledPatients.of_predictions(slices, least_slices, labelled.name),
        f"{labelled.name}, {labelled.part}{own}, fingerprint {labelled.fingerprint}",
        lesions_only=record is not None and record.source != detector.bundle.source,
        coverage=coverage,
        seed=seed,
    )
    facts = detector.bundle.facts
    document = {
        "bundle": {"name": facts.name, "graph_sha256": facts.graph_sha256},
        "dataset": labelled.name,
        "part": labelled.part,
        "external": labelled.external,
        "fingerprint": labelled.fingerprint,
        **result.to_dict(),
    }
    write_json(folder / "aggregation.json", document)
    write_report(_report(detector, labelled, result), folder / "report.html")
    if record is not None and setting is None:
        record.enter(patient=result.rule)
    elif record is not None and setting is not None:
        changed = record.facts.settings[setting].model_copy(update={"patient": result.rule})
        record.enter(settings=record.facts.settings | {setting: changed})
    return result


def _check_same_lesions(record: Bundle, own: Bundle) -> None:
    if record.facts.segmenter_sha256 != own.facts.segmenter_sha256:
        raise GroundglassError(
            f"{record.source}: its segmenter is not {own.facts.name}'s, so its lesion shares differ; "
            "choose the rule with a detector that has the same one"
        )


def _rows(detector: Detector, dataset: str, part: str | None) -> Labelled:
    if detector.segmenter is None:
        raise GroundglassError("aggregation needs the lungs of each slice: load the detector with lungs=True")
    bundle = detector.bundle
    labelled = choose_rows(bundle, dataset, part)
    if labelled.external is not False:
        return labelled
    if part is None:
        labelled = choose_rows(bundle, dataset, "val")
    if labelled.part in ("test", "all"):
        raise GroundglassError(f"{dataset}: its test set must not be used for choosing; use --part val")
    return labelled


def _report(detector: Detector, labelled: Labelled, result: Aggregation) -> Report:
    rule, abstention, counts = result.rule, result.rule.abstention, result.counts
    called = abstention.ends() if abstention else f"covid at {rule.threshold:.2f} or more"
    lines = [(name, f"{weight:.4f}") for name, weight in rule.weights.items()]
    lines += [("intercept", f"{rule.intercept:.4f}"), ("threshold", f"{rule.threshold:.4f}")]
    lines += [("chosen", str(choice)) for choice in rule.chosen]
    if abstention is not None:
        lines += [("verdict", abstention.ends())]
        lines += [("uncertain", str(choice)) for choice in abstention.chosen]
    return Report(
        title=f"From slices to patients: {detector.bundle.facts.name} on {labelled.name}",
        headline=f"Chosen: {rule.aggregation}; a patient is called {called}.",
        warnings=[
            f"{counts['patients']} patients or groups ({counts['positive']} with COVID-19) were used; "
            f"{counts['left_out']} had too few slices with lungs. From now on, figures per patient on this data "
            "are too optimistic.",
            *([abstention.meaning("patients")] if abstention else []),
            *labelled.warnings,
        ],
        tables_title="The aggregations, on patients that they were not fitted on",
        figures_of_merit=[
            Table(
                "",
                COLUMNS,
                result.rows(),
                "The simplest one within one standard error of the best is chosen.",
            )
        ],
        facts=[Table("The rule", (), lines), bundle_table(detector.bundle.facts)],
    )
