"""``groundglass train`` and ``groundglass bundle``: from a recipe to a run, and from a run to a bundle."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import fingerprint, read_manifest, write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import MissingExtraError
from groundglass.jobs.divide import divide
from groundglass.train.recipe import Recipe, load_recipe
from groundglass.train.run import Run


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
    _need_training_libraries()
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
    _need_training_libraries()
    from groundglass.train.export import export_bundle
    from groundglass.train.loop import best_module, load_part

    run = Run(folder)
    recipe = run.recipe()
    manifest = read_manifest(run.manifest_file)
    validation = load_part(manifest, "val", recipe, show_progress=sys.stderr.isatty())
    bundle = export_bundle(run, recipe, best_module(recipe, run), manifest, validation)
    if output is None:
        return run.bundle_folder
    if output.suffix == ".zip":
        bundle.write_zip(output)
    else:
        Bundle.save(output, bundle.facts, bundle.graph, bundle.recipe)
    return output


def _train(recipe: Recipe, run: Run, checkpoint: Path | None, tell: Callable[[str], None]) -> None:
    from groundglass.jobs.run_report import write_run_report
    from groundglass.train.export import export_bundle
    from groundglass.train.loop import load_part, train_run

    manifest = read_manifest(run.manifest_file)
    show = sys.stderr.isatty()
    module = train_run(recipe, manifest, run, resume_from=checkpoint, show_progress=show, tell=tell)
    validation = load_part(manifest, "val", recipe)
    bundle = export_bundle(run, recipe, module, manifest, validation)
    write_run_report(run, Detector(bundle))
    run.update(state="finished")


def _need_training_libraries() -> None:
    for name in ("torch", "lightning", "timm", "kornia", "onnx"):
        if find_spec(name) is None:
            raise MissingExtraError("train", name)
