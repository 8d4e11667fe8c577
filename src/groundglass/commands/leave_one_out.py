"""``groundglass evaluate --leave-one-source-out``: train without each source in turn, and evaluate on it."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from groundglass.commands.evaluate import Labelled, evaluate_detector
from groundglass.commands.trainings import Training, check_trainings
from groundglass.data.manifest import fingerprint, read_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.evaluation.operating_point import most_certain_accuracy
from groundglass.evaluation.predictions import write_predictions
from groundglass.files import write_json
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.recipe.divide import divided_scans, sources_of
from groundglass.recipe.parts import Data
from groundglass.recipe.recipe import AnyRecipe, load_recipe
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.report.leave_one_out import JUDGED, REPORT, LeaveOneOutResult, SourceResult
from groundglass.report.page import write_report
from groundglass.train.run import Run


def leave_one_source_out(
    recipe_file: Path,
    overrides: tuple[str, ...],
    folder: Path | None,
    *,
    lungs: bool = True,
    record: Bundle | None = None,
    tell: Callable[[str], None] = print,
) -> tuple[LeaveOneOutResult, Path]:
    """Train a recipe once without each source of its data, and evaluate each detector on the left-out source.

    A finished run is not repeated, and a stopped one is resumed.

    Parameters
    ----------
    recipe_file, overrides
        As in :func:`groundglass.commands.train.train`.
    folder
        Where to write ``predictions.csv`` (of all sources), ``leave_one_source_out.json``, ``report.html``
        and for each source a run, with its results in ``left-out``; by default
        ``evaluations/NAME-leave-one-source-out``.
    lungs
        Look for lungs, as ``groundglass evaluate`` does.
    record
        The bundle of a detector that was trained from the recipe on all sources: the figures are recorded in it
        and its model card, as those of networks trained in the same way.
    tell
        Receives lines of text about the progress.

    Returns
    -------
    The results, and the folder.

    Raises
    ------
    GroundglassError
        If the recipe is a segmenter's or itself leaves a source out, there are fewer than two sources, a
        class comes from only one source, a folder holds a run of another recipe, or training or reading
        fails.
    """
    recipe = load_recipe(recipe_file, overrides)
    _check(recipe, recipe_file)
    if record is not None:
        record.check_enterable()
    folder = folder or Path("evaluations") / f"{recipe.name}-leave-one-source-out"
    sources = sources_of(recipe.data)
    if len(sources) < 2:
        raise GroundglassError(
            f"{recipe_file}: all scans are from {sources[0]}, but at least two sources are needed; set the "
            "manifest's column source, or name further datasets in the recipe's data.further"
        )
    trainings = [_without(recipe, source, folder) for source in sources]
    for training in trainings:
        _check_classes(training.recipe.data, divided_scans(training.recipe.data, recipe.seed))
    check_trainings(trainings)
    tell(f"{len(sources)} sources, {len(sources)} training runs: {', '.join(sources)}")
    result = LeaveOneOutResult(recipe, tuple(_judged(one, lungs=lungs, tell=tell) for one in trainings))
    pooled = pd.concat([one.predictions for one in result.each], ignore_index=True)
    write_predictions(pooled, folder / "predictions.csv")
    write_json(folder / "leave_one_source_out.json", result.to_dict())
    write_report(result.report(), folder / REPORT)
    if record is not None:
        record.enter(left_out=tuple(one.facts for one in result.each))
    return result, folder


def _check(recipe: AnyRecipe, recipe_file: Path) -> None:
    if isinstance(recipe, SegmentationRecipe):
        raise GroundglassError(f"{recipe_file}: trains a segmenter; only detectors are evaluated by source")
    if recipe.data.leave_out is not None:
        raise GroundglassError(
            f"{recipe_file}: already leaves out {recipe.data.leave_out}; remove data.leave_out, since each source "
            "is left out in turn"
        )


def _without(recipe: AnyRecipe, source: str, folder: Path) -> Training:
    data = recipe.data.model_copy(update={"leave_out": source})
    # Characters that a file system may not accept are percent-encoded.
    name = quote(source, safe=" ")
    name = "%2E" + name[1:] if name.startswith(".") else name
    return Training(source, recipe.model_copy(update={"data": data}), Run(folder / name))


def _check_classes(data: Data, divided: pd.DataFrame) -> None:
    for part in ("train", "val"):
        there = set(data.classes_of(divided.loc[divided["split"] == part, "label"]))
        absent = [name for name in data.several or (NEGATIVE, POSITIVE) if name not in there]
        if absent:
            raise GroundglassError(
                f"without {data.leave_out} the {part} set has no slices of {', '.join(absent)}: each class must "
                "come from at least two sources, with training and validation slices in the others"
            )


def _judged(training: Training, *, lungs: bool, tell: Callable[[str], None]) -> SourceResult:
    source, run = training.name, training.run
    tell(f"{source}: training on the other sources")
    training.finish(tell)
    manifest = read_manifest(run.manifest_file)
    rows = manifest[manifest["source"] == source].reset_index(drop=True)
    tell(f"{source}: running on its {len(rows)} slices")
    detector = Detector.load(run.bundle_folder.absolute(), lungs=lungs)
    seen = source in detector.bundle.facts.training.masks
    told = (f"Its segmenter was trained on other slices of {source}.",) if seen else ()
    labelled = Labelled(rows, source, "all", not seen, "", manifest, fingerprint(manifest), told)
    outcome = evaluate_detector(detector, labelled, run.folder / JUDGED)
    predictions, threshold = outcome.evaluated.predictions, outcome.evaluated.threshold
    return SourceResult(
        source=source,
        run=run.folder.name,
        threshold=threshold,
        predictions=predictions,
        most_certain=most_certain_accuracy(predictions, threshold),
        failures=tuple(outcome.failures),
        facts=outcome.facts,
    )
