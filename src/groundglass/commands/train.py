"""``groundglass train`` and ``groundglass bundle``: train from a recipe, and export a run as a bundle."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundglass.bundle.store import kind_of_bundle
from groundglass.data.dataset import Scheme
from groundglass.data.manifest import fingerprint, write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.errors import BundleError, GroundglassError, MissingExtraError, need_extra
from groundglass.recipe.divide import divided_scans
from groundglass.recipe.own_data import default_recipe, for_data
from groundglass.recipe.recipe import AnyRecipe, ClassificationRecipe, dump_recipe, load_recipe, parse_recipe
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.segment.segmenter import SegmenterBundle
from groundglass.train.run import Run

if TYPE_CHECKING:
    from groundglass.train.task import Task

log = logging.getLogger(__name__)


def train(
    recipe_file: Path | None,
    overrides: tuple[str, ...],
    folder: Path | None,
    *,
    data: str | None = None,
    split: Scheme | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tell: Callable[[str], None] = print,
) -> Run:
    """Train from a recipe, export the bundle and report on the validation set.

    Parameters
    ----------
    recipe_file
        The recipe's YAML file; None for the default recipe, which needs ``data``.
    overrides
        ``key=value`` pairs that change the recipe.
    data, split
        Train on these labelled scans instead of the recipe's own, with this split; see
        :func:`groundglass.recipe.own_data.for_data`.
    folder
        The run's folder; by default ``runs/NAME``, with the recipe's name.
    resume
        Continue the run in the folder after its last finished epoch.
    overwrite
        Delete the run that is in the folder.
    tell
        Receives a line of text per epoch.

    Raises
    ------
    GroundglassError
        If the recipe, the data or the folder cannot be used, or training fails.
    """
    recipe = _recipe(recipe_file, overrides, data, split, tell)
    run = Run(folder or Path("runs") / recipe.name)
    train_recipe(recipe, run, resume=resume, overwrite=overwrite, tell=tell)
    return run


def _recipe(
    recipe_file: Path | None,
    overrides: tuple[str, ...],
    data: str | None,
    split: Scheme | None,
    tell: Callable[[str], None],
) -> AnyRecipe:
    """The recipe to train from, changed for the data, and then by the overrides."""
    recipe = (
        _default_recipe(tell) if recipe_file is None else load_recipe(recipe_file, () if data else overrides)
    )
    if data is None and split is None:
        return recipe
    changed, changes = for_data(recipe, data or recipe.data.dataset, split)
    for change in changes:
        tell(f"changed: {change}")
    return parse_recipe(dump_recipe(changed), overrides, origin=str(recipe_file or "default recipe"))


def _default_recipe(tell: Callable[[str], None]) -> AnyRecipe:
    """The default recipe, with a network that can be trained here."""
    recipe = default_recipe()
    try:
        check_ready(recipe)
    except MissingExtraError:
        raise
    except GroundglassError as error:
        tell(f"{error}; a small network is trained without them")
        return default_recipe(weights=False)
    return recipe


def train_recipe(
    recipe: AnyRecipe,
    run: Run,
    *,
    resume: bool = False,
    overwrite: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Train from a loaded recipe, as :func:`train` does."""
    need_extra("train")
    if _helps(recipe):
        _task(run.recipe()).train(
            run, resume_from=run.checkpoints / "last.ckpt" if resume else None, tell=tell
        )
        sys.exit()  # the first process exports the bundle
    if resume:
        task = _task(same_run(recipe, run))
        if run.facts()["state"] == "started":
            task.train(run, resume_from=run.checkpoints / "last.ckpt", tell=tell)
        _finish(task, run)
        return
    recipe, backbone = _task(recipe).for_this_machine(tell)
    task = _task(recipe)
    manifest = divided_scans(recipe.data, recipe.seed)
    log.info("training %s in %s, on %d slices", recipe.name, run.folder, len(manifest))
    run.start(recipe, fingerprint(manifest), overwrite=overwrite)
    run.update(**backbone)
    write_manifest(manifest, run.manifest_file)
    task.train(run, tell=tell)
    _finish(task, run)


def _processes(recipe: AnyRecipe) -> int:
    return recipe.trainer.processes if isinstance(recipe, ClassificationRecipe | SegmentationRecipe) else 1


def _helps(recipe: AnyRecipe) -> bool:
    """Whether this process only assists the first of several processes that train a recipe.

    Lightning starts the same command for each further device and numbers it in these variables, as Slurm does.
    """
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return _processes(recipe) > 1 and any(os.environ.get(name, "0") != "0" for name in names)


def finish_training(recipe: AnyRecipe, run: Run, tell: Callable[[str], None] = print) -> bool:
    """Train from a recipe unless that is done, resuming a stopped run; returns whether there was work to do.

    Raises
    ------
    GroundglassError
        If the folder holds a run of another recipe or on other data, or training fails.
    """
    if Run.is_run(run.folder) and run.facts()["state"] == "finished":
        same_run(recipe, run)
        return False
    if _processes(recipe) > 1:
        raise GroundglassError(
            f"{recipe.name}: trains on several devices, which needs a separate command; train it with "
            "`groundglass train` first and give the run, or set trainer.devices and trainer.nodes to 1"
        )
    if not Run.is_run(run.folder):
        train_recipe(recipe, run, tell=tell)
        return True
    begun = run.facts()["state"] == "trained" or (run.checkpoints / "last.ckpt").exists()
    train_recipe(recipe, run, resume=begun, overwrite=not begun, tell=tell)
    return True


def same_run(recipe: AnyRecipe, run: Run) -> AnyRecipe:
    """The recipe that the run was trained with, perhaps with its substitute as backbone.

    Raises
    ------
    GroundglassError
        If the run is of another recipe or on other data.
    """
    own: AnyRecipe = _task(recipe).as_run(run.recipe())
    run.check_resumable(own, fingerprint(divided_scans(own.data, own.seed)))
    return own


def check_ready(recipe: AnyRecipe) -> None:
    """Raise GroundglassError if a recipe's weights or its segmenter are not available on this machine."""
    need_extra("train")
    _task(recipe).check_ready()


def bundle_run(folder: Path, output: Path | None) -> Path:
    """Export the network of a run as a bundle; returns the bundle's path.

    Evaluations, the patient rule and the calibration that were already recorded in the run's bundle are kept if the
    network is the same.

    Parameters
    ----------
    folder
        The run's folder.
    output
        A folder, or a file ending in ``.zip``; by default ``bundle`` in the run's folder.
    """
    need_extra("train")
    run = Run(folder)
    recorded = _recorded(run)
    bundle = _task(run.recipe()).export(run)
    if recorded.get("graph_sha256") == bundle.facts.graph_sha256:
        bundle.enter(**recorded)
    if output is None:
        return run.bundle_folder
    bundle.write(output)
    return output


def _recorded(run: Run) -> dict[str, Any]:
    """What was recorded in a run's bundle after its export, with the hash of its network; {} without a bundle."""
    try:
        segments = kind_of_bundle(run.bundle_folder) == SegmenterBundle.kind
        facts = (SegmenterBundle if segments else Bundle).load(run.bundle_folder).facts
    except BundleError:  # exporting again repairs a damaged one
        return {}
    names = ["graph_sha256", "evaluations", "left_out", "patient", "abstention"]
    if getattr(facts, "abstention", None) is not None:  # calibrated: the export's choices no longer apply
        names += ["bias", "temperature", "threshold", "chosen", "validation", "validation_superseded"]
    return {name: getattr(facts, name) for name in names if hasattr(facts, name)}


def _task(recipe: AnyRecipe) -> "Task[Any]":
    from groundglass.train.tasks import task_for

    return task_for(recipe, show_progress=sys.stderr.isatty())


def _finish(task: "Task[Any]", run: Run) -> None:
    """Export the trained network, and write the report."""
    from groundglass.commands.run_report import write_run_report

    log.info("exporting the bundle of %s and writing its report", run.folder)
    write_run_report(run, task, task.export(run))
    run.update(state="finished")
