"""``groundglass train`` and ``groundglass bundle``: from a recipe to a run, and from a run to a bundle."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from groundglass.bundle.store import kind_of_bundle
from groundglass.commands.libraries import need_training_libraries
from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import fingerprint, read_manifest, write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import BundleError, GroundglassError
from groundglass.recipe.divide import divided_by, divided_scans, named_sources
from groundglass.recipe.recipe import AnyDetectorRecipe, AnyRecipe, load_recipe
from groundglass.recipe.tasks import FeaturesRecipe, GroundedRecipe, SegmentationRecipe
from groundglass.segment.segmenter import Segmenter, SegmenterBundle, segmenter_for
from groundglass.train.run import Run

OF_ONE_KIND = SegmentationRecipe, GroundedRecipe
"""Recipes without a backbone that another could stand in for."""


def train(
    recipe_file: Path,
    overrides: tuple[str, ...],
    folder: Path | None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    tell: Callable[[str], None] = print,
) -> Run:
    """Train by a recipe, export the bundle and report on the validation part.

    Parameters
    ----------
    recipe_file
        The recipe's YAML file.
    overrides
        ``key=value`` pairs that change it.
    folder
        The run's folder; by default ``runs/NAME`` by the recipe's name.
    resume
        Go on with the run that the folder holds, from its last finished epoch.
    overwrite
        Throw away the run that the folder holds.
    tell
        Receives a line of text an epoch.

    Raises
    ------
    GroundglassError
        If the recipe, the data or the folder do not serve; see the parts.
    """
    recipe = load_recipe(recipe_file, overrides)
    run = Run(folder or Path("runs") / recipe.name)
    train_recipe(recipe, run, resume=resume, overwrite=overwrite, tell=tell)
    return run


def train_recipe(
    recipe: AnyRecipe,
    run: Run,
    *,
    resume: bool = False,
    overwrite: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Train by a recipe that was read, as :func:`train` does."""
    need_training_libraries()
    if resume:
        own = same_run(recipe, run)
        if run.facts()["state"] == "started":
            _train(own, run, run.checkpoints / "last.ckpt", tell)
        else:
            _finish(own, run)
        return
    wanted, recipe = recipe, _for_this_machine(recipe, tell)
    manifest = divided_scans(recipe.data, recipe.seed)
    masks = masks_of(recipe)
    run.start(recipe, fingerprint(manifest), overwrite=overwrite)
    if _backbone(recipe) != _backbone(wanted):
        run.update(backbone=_backbone(recipe), stands_in_for=_backbone(wanted))
    write_manifest(manifest, run.manifest_file)
    if masks is not None:
        write_manifest(masks, run.masks_file)
        run.update(masks_fingerprint=fingerprint(masks))
    _train(recipe, run, None, tell)


def finish_training(recipe: AnyRecipe, run: Run, tell: Callable[[str], None] = print) -> bool:
    """Train by a recipe unless that was done, going on where it was stopped; returns whether anything was to do.

    Raises
    ------
    GroundglassError
        If the folder holds a run by another recipe or on other data, or training fails.
    """
    if not Run.is_run(run.folder):
        train_recipe(recipe, run, tell=tell)
        return True
    if run.facts()["state"] == "finished":
        same_run(recipe, run)
        return False
    begun = run.facts()["state"] == "trained" or (run.checkpoints / "last.ckpt").exists()
    train_recipe(recipe, run, resume=begun, overwrite=not begun, tell=tell)
    return True


def same_run(recipe: AnyRecipe, run: Run) -> AnyRecipe:
    """The recipe as the run has it, whose backbone may be a substitute.

    Raises
    ------
    GroundglassError
        If the run is by another recipe or on other data.
    """
    own = _backbone(run.recipe())
    if _substitute(recipe) is not None and own in (_backbone(recipe), _substitute(recipe)):
        recipe = _with_backbone(recipe, own)
    manifest = divided_scans(recipe.data, recipe.seed)
    run.check_resumable(recipe, fingerprint(manifest))
    masks = masks_of(recipe)
    if masks is not None and run.facts().get("masks_fingerprint", fingerprint(masks)) != fingerprint(masks):
        raise GroundglassError(
            f"{run.folder}: its dataset with masks has changed since it began; --overwrite starts anew"
        )
    return recipe


def masks_of(recipe: AnyRecipe) -> pd.DataFrame | None:
    """The divided slices with masks of a grounded detector's recipe; None of any other.

    Raises
    ------
    GroundglassError
        If they cannot be had or divided, hold no masks, or come from the source that is left out.
    """
    from groundglass.train.segmentation.slices import masked_rows

    if not isinstance(recipe, GroundedRecipe):
        return None
    named = named_sources(load_dataset(recipe.masks.dataset), recipe.masks.name)
    if recipe.data.leave_out in set(named["source"]):
        raise GroundglassError(
            f"masks.dataset {recipe.masks.dataset}: comes from {recipe.data.leave_out}, which is left out; name "
            "other masks"
        )
    divided = divided_by(named, recipe.masks, recipe.seed)
    masked_rows(divided, "train")
    return divided


def check_ready(recipe: AnyRecipe) -> None:
    """Raise GroundglassError where a recipe's weights or its segmenter cannot be had on this machine."""
    need_training_libraries()
    from groundglass.train.models import check_weights

    segmenter_for(recipe.preprocessing)
    if isinstance(recipe, GroundedRecipe):
        Segmenter.load(recipe.model.segmenter)
    elif not isinstance(recipe, SegmentationRecipe) and recipe.model.substitute is None:
        check_weights(recipe.model.name, recipe.model.weights)


def _for_this_machine(recipe: AnyRecipe, tell: Callable[[str], None]) -> AnyRecipe:
    """The recipe with its model's substitute in place, where the weights cannot be had here."""
    from groundglass.train.models import with_substitute

    if isinstance(recipe, OF_ONE_KIND) or recipe.model.substitute is None:
        return recipe
    wanted = recipe.model
    name = with_substitute(wanted.name, wanted.weights, wanted.substitute)
    if name != wanted.name:
        tell(f"{wanted.name}: its weights cannot be had here; {name} stands in, as the recipe says")
    return _with_backbone(recipe, name)


def _backbone(recipe: AnyRecipe) -> str:
    return "" if isinstance(recipe, OF_ONE_KIND) else recipe.model.name


def _substitute(recipe: AnyRecipe) -> str | None:
    return None if isinstance(recipe, OF_ONE_KIND) else recipe.model.substitute


def _with_backbone(recipe: AnyRecipe, name: str) -> AnyRecipe:
    """The recipe with the backbone that was decided on."""
    model = recipe.model.model_copy(update={"name": name, "substitute": None})
    return recipe.model_copy(update={"model": model})


def bundle_run(folder: Path, output: Path | None) -> Path:
    """Export the best epoch of a run as a bundle.

    Parameters
    ----------
    folder
        The run's folder.
    output
        A folder, or a file ending in ``.zip``; by default ``bundle`` in the run's folder.

    What was entered into the run's bundle before, evaluations and the rule for patients, stays where the network is
    the same.
    """
    need_training_libraries()
    run = Run(folder)
    recipe = run.recipe()
    entered = _entered(run)
    bundle = _export(recipe, run, read_manifest(run.manifest_file))
    if entered.get("graph_sha256") == bundle.facts.graph_sha256:
        bundle.enter(**entered)
    if output is None:
        return run.bundle_folder
    bundle.write(output)
    return output


def _entered(run: Run) -> dict[str, Any]:
    """What was entered into a run's bundle after its export, with the network that it is of; {} without one."""
    try:
        segments = kind_of_bundle(run.bundle_folder) == SegmenterBundle.kind
        facts = (SegmenterBundle if segments else Bundle).load(run.bundle_folder).facts
    except BundleError:  # exporting anew is what mends a damaged one
        return {}
    names = ["graph_sha256", "evaluations", "left_out", "patient", "abstention"]
    if getattr(facts, "abstention", None) is not None:  # calibrated: what the export chose no longer stands
        names += ["bias", "temperature", "threshold", "chosen", "validation", "validation_superseded"]
    return {name: getattr(facts, name) for name in names if hasattr(facts, name)}


def _train(recipe: AnyRecipe, run: Run, checkpoint: Path | None, tell: Callable[[str], None]) -> None:
    from groundglass.train.features.loop import train_features
    from groundglass.train.grounded.loop import train_grounded
    from groundglass.train.loop import train_run
    from groundglass.train.segmentation.loop import train_segmenter

    manifest = read_manifest(run.manifest_file)
    show = sys.stderr.isatty()
    if isinstance(recipe, SegmentationRecipe):
        train_segmenter(recipe, manifest, run, resume_from=checkpoint, show_progress=show, tell=tell)
    elif isinstance(recipe, GroundedRecipe):
        masks = read_manifest(run.masks_file)
        train_grounded(recipe, manifest, masks, run, resume_from=checkpoint, show_progress=show, tell=tell)
    elif isinstance(recipe, FeaturesRecipe):
        train_features(recipe, manifest, run, show_progress=show, tell=tell)
    else:
        train_run(recipe, manifest, run, resume_from=checkpoint, show_progress=show, tell=tell)
    _finish(recipe, run)


def _finish(recipe: AnyRecipe, run: Run) -> None:
    """Export and report on what was trained."""
    from groundglass.commands.run_report import write_run_report, write_segmenter_report

    manifest = read_manifest(run.manifest_file)
    if isinstance(recipe, SegmentationRecipe):
        write_segmenter_report(run, recipe, _export_segmenter(recipe, run, manifest))
    else:
        write_run_report(run, recipe, Detector(_export_detector(recipe, run, manifest)))
    run.update(state="finished")


def _export(recipe: AnyRecipe, run: Run, manifest: pd.DataFrame) -> Bundle | SegmenterBundle:
    if isinstance(recipe, SegmentationRecipe):
        return _export_segmenter(recipe, run, manifest)
    return _export_detector(recipe, run, manifest)


def _export_detector(recipe: AnyDetectorRecipe, run: Run, manifest: pd.DataFrame) -> Bundle:
    from groundglass.train.export import export_bundle
    from groundglass.train.features.export import export_features
    from groundglass.train.features.loop import best_classifier
    from groundglass.train.grounded.export import export_grounded
    from groundglass.train.grounded.loop import kept_module
    from groundglass.train.loop import best_module, load_part

    validation = load_part(manifest, "val", recipe, show_progress=sys.stderr.isatty())
    if isinstance(recipe, GroundedRecipe):
        seen = load_part(manifest, "train", recipe, show_progress=sys.stderr.isatty())
        return export_grounded(run, recipe, kept_module(recipe, run), manifest, seen, validation)
    if isinstance(recipe, FeaturesRecipe):
        return export_features(run, recipe, *best_classifier(recipe, run), manifest, validation)
    return export_bundle(run, recipe, best_module(recipe, run), manifest, validation)


def _export_segmenter(recipe: SegmentationRecipe, run: Run, manifest: pd.DataFrame) -> SegmenterBundle:
    from groundglass.train.segmentation.export import export_segmenter
    from groundglass.train.segmentation.loop import best_segmenter
    from groundglass.train.segmentation.slices import load_masked_part

    show = sys.stderr.isatty()
    validation = load_masked_part(manifest, "val", recipe.preprocessing, show_progress=show)
    return export_segmenter(run, recipe, best_segmenter(recipe, run), manifest, validation)
