"""The members of a comparison: each system trained under the protocol, and its answers for the test slices."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import pandas as pd

from groundglass.commands.evaluate import predict_rows
from groundglass.commands.trainings import Training, check_trainings, without_leakage_warning
from groundglass.data.dataset import Scheme
from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import read_manifest
from groundglass.data.registry import DATASETS
from groundglass.data.splits import best_split, groups, named_groups
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.evaluation.comparison import ENSEMBLE
from groundglass.evaluation.predictions import read_predictions
from groundglass.recipe.divide import divided_scans
from groundglass.recipe.own_data import fit_sizes
from groundglass.recipe.parts import Data
from groundglass.recipe.recipe import AnyRecipe, load_recipe
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.train.run import Run


@dataclass(frozen=True)
class Protocol:
    """The settings that all systems of a comparison share.

    Attributes
    ----------
    dataset
        A dataset's name, a manifest CSV or a folder of one subfolder per class.
    split
        How it is divided; by default the dataset's own way.
    split_seed
        Seed of the split, the same for all.
    seeds
        Seeds of the trainings: each system is trained once per seed.
    folds
        If given, each system is trained once per fold and seed; the test set is the same for all.
    changes
        ``key=value`` pairs that change every recipe.
    classes
        The two labels that are used, if all recipes name the same two; none for covid against all others.
    """

    dataset: str
    split: Scheme
    split_seed: int
    seeds: tuple[int, ...]
    folds: int | None
    changes: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def data(self, fold: int = 0, several: tuple[str, ...] = ()) -> Data:
        """The data part that every recipe gets; ``several`` are the classes of a recipe with several."""
        return Data(
            dataset=self.dataset,
            split=self.split,
            seed=self.split_seed,
            folds=self.folds,
            fold=fold,
            classes=several or self.classes or None,
        )

    def judged_rows(self) -> tuple[str, pd.DataFrame]:
        """``test`` and the manifest rows of the test set; ``val`` and those of the validation set if there
        is none.

        Raises
        ------
        GroundglassError
            If there is neither, or the folds leave no part that is the same for all.
        """
        manifest = divided_scans(self.data(), self.split_seed)
        for part in ("test",) if self.folds else ("test", "val"):
            rows = manifest[manifest["split"] == part].reset_index(drop=True)
            if len(rows):
                return part, rows
        raise GroundglassError(
            f"{self.dataset}: the split {self.split} leaves no part to evaluate on; choose another with "
            "--split, such as grouped or blocks (with --folds, it must have a test set)"
        )


@dataclass(frozen=True)
class TrainedSystem:
    """A system of a comparison: its name, its trained members, and whether they were given as finished runs."""

    name: str
    runs: tuple[Run, ...]
    given: bool = False


def trained_systems(
    items: Sequence[Path],
    protocol: Protocol,
    folder: Path,
    judged: Sequence[tuple[str, pd.DataFrame]],
    tell: Callable[[str], None],
) -> list[TrainedSystem]:
    """Train the systems that are not trained yet.

    Parameters
    ----------
    items
        Recipe files, which are trained under the protocol, and folders of finished runs, which are used as
        they are.
    folder
        Folder of the recipes' runs, ``NAME-seedN``.
    judged
        Parts, with their manifest rows, that all are to be evaluated on; finished runs must not have seen
        any.
    tell
        Receives lines of text about the progress.

    Raises
    ------
    GroundglassError
        If two systems have the same name, a recipe or run is a segmenter's, a run has no bundle or was
        trained or chosen on slices that it is to be evaluated on, or a training fails.
    """
    # Everything is read and checked before the first training, so that no mistake surfaces after hours.
    recipes = {item: load_recipe(item, protocol.changes) for item in items if not Run.is_run(item)}
    names = [recipes[item].name if item in recipes else item.resolve().name for item in items]
    _check_names(names)
    recipes = {item: _fitting(recipe, protocol, tell) for item, recipe in recipes.items()}
    trainings = {}
    for item, recipe in recipes.items():
        if isinstance(recipe, SegmentationRecipe):
            raise GroundglassError(f"{item}: trains a segmenter; only detectors are compared")
        trainings[item] = _trainings(recipe, protocol, folder)
        check_trainings(trainings[item])
    given = [item for item in items if item not in recipes]
    runs: dict[Path, tuple[Run, ...]] = {}
    runs |= {item: (_finished(item, judged, torn=protocol.split == "random"),) for item in given}
    for item, several in trainings.items():
        for training in several:
            training.finish(tell)
        runs[item] = tuple(training.run for training in several)
    return [TrainedSystem(name, runs[item], item in given) for item, name in zip(items, names, strict=True)]


def _fitting(recipe: AnyRecipe, protocol: Protocol, tell: Callable[[str], None]) -> AnyRecipe:
    """The recipe with sizes that fit the dataset of the comparison, if that is not its own."""
    if recipe.data.dataset == protocol.dataset or isinstance(recipe, SegmentationRecipe):
        return recipe
    with without_leakage_warning():
        fitted, changes = fit_sizes(recipe, divided_scans(protocol.data(), protocol.split_seed))
    for change in changes:
        tell(f"{recipe.name}, changed: {change}")
    return fitted


def _check_names(names: Sequence[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise GroundglassError(f"{', '.join(doubled)}: named twice; rename the recipe or the run's folder")
    if ENSEMBLE in names:
        raise GroundglassError(
            f"{ENSEMBLE}: this name is reserved for all systems together; rename the recipe or the run"
        )


def _finished(folder: Path, judged: Sequence[tuple[str, pd.DataFrame]], *, torn: bool) -> Run:
    # A bare name could be that of a shipped bundle, which would then answer instead of the run.
    run = Run(folder.absolute())
    if run.facts()["state"] != "finished":
        raise GroundglassError(f"{folder}: is not finished; finish it first with --resume")
    Bundle.load(run.folder)
    for part, rows in judged:
        check_unseen(run, part, rows, torn=torn)
    return run


def _trainings(recipe: AnyRecipe, protocol: Protocol, folder: Path) -> list[Training]:
    """The trainings of a recipe under the protocol: one for each seed and fold."""
    several = recipe.data.several
    if several and set(load_dataset(protocol.dataset)["label"]) != set(several):
        several = ()
    trainings = []
    for seed in protocol.seeds:
        for fold in range(protocol.folds or 1):
            changed = {"data": protocol.data(fold, several), "seed": seed}
            name = f"{recipe.name}-seed{seed}" + (f"-fold{fold}" if protocol.folds else "")
            trainings.append(Training(name, recipe.model_copy(update=changed), Run(folder / name)))
    return trainings


def check_unseen(run: Run, part: str, rows: pd.DataFrame, *, torn: bool = False) -> None:
    """Refuse a run that was trained or chosen on slices of the ``part`` that it is to be evaluated on.

    Slices of the same patient or named group count too, unless the split divides patients anyway (``torn``);
    guessed blocks of numbers do not, since a split by blocks cuts through some of them. Runs were chosen on a
    validation set; it is refused only if they were trained on it.

    Raises
    ------
    GroundglassError
        If there are such slices.
    """
    refused = ("train",) if part == "val" else ("train", "val")
    manifest = read_manifest(run.manifest_file)
    used = manifest[manifest["split"].isin(refused)]
    seen = set(_files(used))
    patients = set() if torn else set(_patients(used)) - {None}
    common = sum(
        file in seen or patient in patients
        for file, patient in zip(_files(rows), _patients(rows), strict=True)
    )
    if common:
        raise GroundglassError(
            f"{run.folder}: was trained or chosen on {common} of the {len(rows)} slices that all systems "
            "are evaluated on, or on their patients; give its recipe instead, to train it under the common split"
        )


def _files(rows: pd.DataFrame) -> list[str]:
    return [str(Path(path).resolve()) for path in rows["path"]]


def _patients(rows: pd.DataFrame) -> list[tuple[str, str] | None]:
    """Source and patient or named group of each row; None if neither is named."""
    named = zip(rows["source"], named_groups(rows), strict=True)
    return [(source, name) if name else None for source, name in named]


def answers(run: Run, rows: pd.DataFrame, folder: Path, name: str) -> pd.DataFrame:
    """A member's predictions for slices, taken from ``folder`` if the same bundle answered before.

    No lungs are looked for, unless the member needs them, so that every member answers every slice.

    Raises
    ------
    GroundglassError
        If the run has no bundle, or a slice cannot be read.
    """
    bundle = Bundle.load(run.folder)
    file = folder / f"{run.folder.name}-on-{name}-{_key(bundle, rows)}.csv"
    if not file.exists():
        partial_file = file.with_suffix(".partial")
        failures = predict_rows(Detector(bundle), rows, partial_file, name)
        if failures:
            partial_file.unlink()
            raise GroundglassError(
                f"{len(failures)} of {len(rows)} slices cannot be read, but all systems need the same ones: first "
                f"{failures[0].path}: {failures[0].problem}"
            )
        partial_file.replace(file)
    return read_predictions(file)


def _key(bundle: Bundle, rows: pd.DataFrame) -> str:
    """A hash of everything that answers depend on: the bundle, and the files with their labels and groups."""
    key = hashlib.sha256(bundle.facts.model_dump_json(exclude={"evaluations", "left_out"}).encode())
    for path, label, unit in zip(rows["path"], rows["label"], groups(rows), strict=True):
        state = Path(path).stat()
        key.update(f"{path}\0{label}\0{unit}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return key.hexdigest()[:12]


def make_protocol(
    items: Sequence[Path],
    dataset: str | None,
    split: str | None,
    *,
    split_seed: int,
    seeds: tuple[int, ...],
    folds: int | None,
    changes: tuple[str, ...],
) -> Protocol:
    """The protocol of a comparison; by default with the recipes' dataset and that dataset's own split.

    Raises
    ------
    GroundglassError
        If the recipes, or one of them, name several datasets, there is no such split, or a change concerns a
        setting of the protocol.
    """
    ruled = [change for change in changes if change.split("=")[0].split(".")[0] in ("data", "seed", "name")]
    if ruled:
        raise GroundglassError(
            f"--set {ruled[0]}: the comparison sets this for all systems; use --data, --split, --split-seed, "
            "--seeds and --folds"
        )
    parts = [_recipe_of(item, changes).data for item in items]
    if dataset is None:
        _check_one_dataset(items, parts)
        named = sorted({part.dataset for part in parts})
        if len(named) > 1:
            raise GroundglassError(
                f"the recipes use {', '.join(named)}: name one dataset for all with --data"
            )
        dataset = named[0]
    if split is None:
        split = _own_split(dataset)
    if split not in get_args(Scheme):
        raise GroundglassError(f"--split {split}: unknown; there are {', '.join(get_args(Scheme))}")
    pairs = {frozenset(part.classes or ()) for part in parts}
    classes = tuple(sorted(pairs.pop())) if len(pairs) == 1 and all(len(pair) == 2 for pair in pairs) else ()
    if classes and not set(classes) <= set(load_dataset(dataset)["label"]):
        classes = ()  # they belong to another dataset: covid against the rest
    return Protocol(dataset, cast(Scheme, split), split_seed, seeds, folds, changes, classes)


def _check_one_dataset(items: Sequence[Path], parts: Sequence[Data]) -> None:
    for item, part in zip(items, parts, strict=True):
        if part.by_source:
            raise GroundglassError(
                f"{item}: uses several datasets, or leaves a source out; name the one to compare on with --data"
            )


def _own_split(dataset: str) -> str:
    """The dataset's own split; if the dataset is not a known one, the best split that it allows."""
    if dataset in DATASETS:
        return DATASETS[dataset].default_split
    return best_split(load_dataset(dataset), validation=True)


def _recipe_of(item: Path, changes: tuple[str, ...]) -> AnyRecipe:
    return Run(item).recipe() if Run.is_run(item) else load_recipe(item, changes)
