"""``groundglass evaluate`` of a segmenter: its masks against the truth, case by case."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from groundglass.bundle.facts import EvaluationFacts
from groundglass.commands.cards import mask_cards
from groundglass.commands.evaluate import Labelled, kind_of
from groundglass.commands.mask_report import overlap_tables, worst_slices
from groundglass.commands.progress import track
from groundglass.errors import GroundglassError
from groundglass.evaluate.overlap import by_case, evaluate_overlap
from groundglass.evaluate.predictions import STRUCTURES, read_overlaps, write_overlaps
from groundglass.files import write_json
from groundglass.report.page import Report, Table, bundle_table, dataset_table, write_report
from groundglass.segment.segmenter import Segmenter
from groundglass.train import need_training_libraries


@dataclass(frozen=True)
class MaskJudgement:
    """What came of it: rows of figures with their intervals, and what must be said of them."""

    rows: list[tuple[str, str]]
    notes: list[str]


def evaluate_segmenter(
    segmenter: Segmenter, labelled: Labelled, folder: Path, *, record: bool = False
) -> MaskJudgement:
    """Segment slices whose masks are known, and write the table, the figures and the report.

    Parameters
    ----------
    segmenter
        Who segments.
    labelled
        What is judged on; see :func:`groundglass.commands.evaluate.choose_rows`.
    folder
        Where to write ``masks.csv``, ``metrics.json`` and ``report.html``.
    record
        Enter the figures into the bundle and its model card.

    Raises
    ------
    GroundglassError
        If the dataset has no masks, a file cannot be read, or the training libraries, which measure the
        distances, are not installed.
    """
    need_training_libraries()
    from groundglass.train.overlaps import overlaps

    if any(name not in labelled.rows for name in STRUCTURES):
        raise GroundglassError(
            f"{labelled.name}: has no masks (columns {' and '.join(STRUCTURES)}) to judge a segmenter on"
        )

    def watch(items: Iterable[Any], total: int) -> Iterable[Any]:
        return track(items, "Segmenting slices", total)

    write_overlaps(folder / "masks.csv", overlaps(segmenter, labelled.rows, watch))
    table = read_overlaps(folder / "masks.csv")
    evaluation = evaluate_overlap(table)
    facts = segmenter.bundle.facts
    rows = evaluation.rows()
    document = {
        "bundle": {"name": facts.name, "graph_sha256": facts.graph_sha256},
        "dataset": labelled.name,
        "part": labelled.part,
        "external": labelled.external,
        "fingerprint": labelled.fingerprint,
        "warnings": list(labelled.warnings),
        **evaluation.to_dict(),
    }
    write_json(folder / "metrics.json", document)
    about = dataset_table(labelled.name)
    report = Report(
        title=f"{facts.name} on {labelled.name}, {labelled.part}",
        headline=f"{_headline(rows)} {kind_of(labelled)}",
        warnings=list(labelled.warnings),
        figures_of_merit=overlap_tables(evaluation, by_case(table)),
        slices_title="The slices with the least lesion Dice",
        slices_note="Left the slice, right the contours of the lungs and the lesions in colour.",
        slices=mask_cards(segmenter, worst_slices(table)),
        facts=[*_some(about), bundle_table(facts)],
    )
    write_report(report, folder / "report.html")
    if record:
        segmenter.bundle.record(
            EvaluationFacts(
                dataset=labelled.name,
                part=labelled.part,
                external=labelled.external,
                fingerprint=labelled.fingerprint,
                date=date.today().isoformat(),
                slices=evaluation,
            )
        )
    return MaskJudgement(rows, list(evaluation.notes))


def _headline(rows: list[tuple[str, str]]) -> str:
    values = dict(rows)
    return (
        f"Dice, mean over cases: lungs {values['lung Dice, mean over cases']}, "
        f"lesions {values['lesion Dice, mean over cases']}."
    )


def _some(table: Table | None) -> list[Table]:
    return [] if table is None else [table]
