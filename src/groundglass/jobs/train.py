"""``groundglass train`` and ``groundglass bundle``: from a recipe to a run, and from a run to a bundle."""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import fingerprint, read_manifest, write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.jobs.divide import divide
from groundglass.jobs.libraries import need_training_libraries
from groundglass.segment.bundle import SegmenterBundle
from groundglass.train.recipe import AnyRecipe, Recipe, load_recipe
from groundglass.train.run import Run
from groundglass.train.segmentation.recipe import SegmentationRecipe


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
    need_training_libraries()
    run = Run(folder or Path("runs") / recipe.name)
    manifest = divide(load_dataset(recipe.data.dataset), recipe)
    print_of_data = fingerprint(manifest)
    checkpoint = None
    if resume:
        checkpoint = run.check_resumable(recipe, print_of_data)
    else:
        run.start(recipe, print_of_data, overwrite=overwrite)
        write_manifest(manifest, run.manifest_file)
    _train(recipe, run, checkpoint, tell)
    return run


def bundle_run(folder: Path, output: Path | None) -> Path:
    """Export the best epoch of a run as a bundle.

    Parameters
    ----------
    folder
        The run's folder.
    output
        A folder, or a file ending in ``.zip``; by default ``bundle`` in the run's folder.
    """
    need_training_libraries()
    run = Run(folder)
    recipe = run.recipe()
    bundle = _export(recipe, run, read_manifest(run.manifest_file))
    if output is None:
        return run.bundle_folder
    bundle.write(output)
    return output


def _train(recipe: AnyRecipe, run: Run, checkpoint: Path | None, tell: Callable[[str], None]) -> None:
    from groundglass.jobs.run_report import write_run_report, write_segmenter_report
    from groundglass.train.loop import train_run
    from groundglass.train.segmentation.loop import train_segmenter

    manifest = read_manifest(run.manifest_file)
    show = sys.stderr.isatty()
    if isinstance(recipe, SegmentationRecipe):
        train_segmenter(recipe, manifest, run, resume_from=checkpoint, show_progress=show, tell=tell)
        write_segmenter_report(run, recipe, _export_segmenter(recipe, run, manifest))
    else:
        train_run(recipe, manifest, run, resume_from=checkpoint, show_progress=show, tell=tell)
        write_run_report(run, recipe, Detector(_export_detector(recipe, run, manifest)))
    run.update(state="finished")


def _export(recipe: AnyRecipe, run: Run, manifest: pd.DataFrame) -> Bundle | SegmenterBundle:
    if isinstance(recipe, SegmentationRecipe):
        return _export_segmenter(recipe, run, manifest)
    return _export_detector(recipe, run, manifest)


def _export_detector(recipe: Recipe, run: Run, manifest: pd.DataFrame) -> Bundle:
    from groundglass.train.export import export_bundle
    from groundglass.train.loop import best_module, load_part

    validation = load_part(manifest, "val", recipe, show_progress=sys.stderr.isatty())
    return export_bundle(run, recipe, best_module(recipe, run), manifest, validation)


def _export_segmenter(recipe: SegmentationRecipe, run: Run, manifest: pd.DataFrame) -> SegmenterBundle:
    from groundglass.train.segmentation.export import export_segmenter
    from groundglass.train.segmentation.loop import best_segmenter
    from groundglass.train.segmentation.slices import load_masked_part

    show = sys.stderr.isatty()
    validation = load_masked_part(manifest, "val", recipe.preprocessing, show_progress=show)
    return export_segmenter(run, recipe, best_segmenter(recipe, run), manifest, validation)
