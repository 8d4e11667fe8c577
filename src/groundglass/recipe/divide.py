"""Choose and divide the scans of a recipe's datasets."""

import warnings
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from groundglass.data.datasets import load_dataset, load_labelled
from groundglass.data.registry import DATASETS, SHARING
from groundglass.data.splits import LeakageWarning, named_groups, split
from groundglass.errors import GroundglassError
from groundglass.labels import POSITIVE
from groundglass.recipe.parts import Data, Source


def divided_scans(data: Data, seed: int) -> pd.DataFrame:
    """The scans of all of a recipe's datasets that are used, each dataset divided by its own split.

    Parameters
    ----------
    data
        The recipe's data part.
    seed
        The recipe's seed, used if the data part has none.

    Returns
    -------
    A manifest. With several datasets, or if a source is left out, a blank ``source`` is replaced by the
    dataset's name. With several, patients and groups are prefixed with their dataset's name, since two may
    use the same numbers. If two datasets show the same patients according to the registry, these share a
    name, and all slices of a patient are in the part that the first dataset gives. No slice of a patient of
    the left-out source is used for training or validation.

    Raises
    ------
    GroundglassError
        If a class has no scans or fewer than requested, they cannot be divided this way, two datasets share a
        source or a file, or the source to leave out does not exist or is the only one.

    Warns
    -----
    LeakageWarning
        As :func:`groundglass.data.splits.split` does, and if patients of the left-out source have the same
        names as others.
    """
    if not data.by_source:
        return divide(load_labelled(data.dataset), data, seed)
    tables = _tables(data)
    _check_classes(_joined(tables), data)
    scans = _taking_part(_joined(tables), data)
    if data.leave_out is not None:
        _check_source(data.leave_out, sorted(set(scans["source"])))
    divided = _joined(
        [
            _divided(table, part, data, seed)
            for part, table in zip(data.datasets, tables, strict=True)
            if set(table["source"]) != {data.leave_out}
        ]
    )
    divided = _patients_together(divided)
    return divided if data.leave_out is None else _leaving_out(data.leave_out, divided, scans)


def _patients_together(divided: pd.DataFrame) -> pd.DataFrame:
    """Move all slices of a patient who is in several datasets into the part that the first dataset gives."""
    several = divided.groupby("patient")["source"].transform("nunique").gt(1) & (divided["patient"] != "")
    first = divided[several].drop_duplicates("patient").set_index("patient")["split"]
    return divided.assign(split=divided["patient"].map(first).where(several, divided["split"]))


def divide(manifest: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """The scans of a recipe's first dataset that are used, with their split filled.

    Parameters
    ----------
    manifest
        All scans.
    data, seed
        As in :func:`divided_scans`.

    Raises
    ------
    GroundglassError
        If a class has no scans or fewer than requested, or they cannot be divided this way.
    """
    _check_classes(manifest, data)
    return _divided(manifest, data, data, seed)


def sources_of(data: Data) -> list[str]:
    """The sources of the scans that are used, sorted by name.

    Raises
    ------
    GroundglassError
        If two datasets share a source or a file, or one is not available.
    """
    return sorted(set(_taking_part(_joined(_tables(data)), data)["source"]))


def named_sources(manifest: pd.DataFrame, name: str) -> pd.DataFrame:
    """A manifest with blanks in the column ``source`` replaced by this name."""
    return manifest.assign(source=manifest["source"].where(manifest["source"] != "", name))


def _tables(data: Data) -> list[pd.DataFrame]:
    """The manifests of a recipe's datasets, with their sources named."""
    tables = [named_sources(load_dataset(part.dataset), part.name) for part in data.datasets]
    if not any((table["label"] == POSITIVE).any() for table in tables):
        # One dataset may hold the class that another lacks, but if none has covid, a label may be misspelt.
        tables = [named_sources(load_labelled(part.dataset), part.name) for part in data.datasets]
    for (one, first), (other, second) in combinations(zip(data.datasets, tables, strict=True), 2):
        if common := set(first["source"]) & set(second["source"]):
            raise GroundglassError(
                f"{other.dataset}: comes from {', '.join(sorted(common))} like {one.dataset}; the "
                "datasets of a recipe need different sources: leave one out, or correct the column source"
            )
        if shared := _files(first) & _files(second):
            raise GroundglassError(
                f"{other.dataset}: {len(shared)} of its {len(second)} files are also in {one.dataset}; "
                "leave one of the two out"
            )
    if not data.further:
        return tables
    return [_own_names(table, part.name) for table, part in zip(tables, data.datasets, strict=True)]


def _files(manifest: pd.DataFrame) -> set[Path]:
    return {Path(path).resolve() for path in manifest["path"]}


def _own_names(manifest: pd.DataFrame, name: str) -> pd.DataFrame:
    """A manifest with patients and groups prefixed with the name of the dataset, or of another with the same
    patients."""
    known = DATASETS.get(name)
    name = known.patients_from if known and known.patients_from else name
    columns = [manifest[column] for column in ("patient", "group") if column in manifest]
    return manifest.assign(
        **{str(column.name): column.where(column == "", name + ":" + column) for column in columns}
    )


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True).fillna("")


def _check_source(source: str, known: list[str]) -> None:
    if source not in known:
        raise GroundglassError(
            f"data.leave_out: no scan in use is from the source {source}; there are {', '.join(known)}"
        )
    if len(known) == 1:
        raise GroundglassError(
            f"data.leave_out: all scans are from {source}, and without it none are left to train on; "
            "set the manifest's column source, or name further datasets in data.further"
        )


def _leaving_out(source: str, divided: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """The training and validation sets without a source; all scans from that source become the test set."""
    left = scans[scans["source"] == source].assign(split="test")
    kept = divided[(divided["source"] != source) & (divided["split"] != "test")]
    shared = (set(named_groups(left)) & set(named_groups(kept))) - {""}
    if source in SHARING:
        kept = kept[~named_groups(kept).isin(shared)]
        if kept.empty:
            raise GroundglassError(
                f"data.leave_out: {source} contains all patients of the other datasets, so nothing is left to "
                "train on; add a dataset of other patients"
            )
    elif shared:
        warnings.warn(
            f"{len(shared)} patients or groups have the same names in {source} and elsewhere (first: "
            f"{min(shared)}); if they are the same, scores are too optimistic; otherwise rename them",
            LeakageWarning,
            stacklevel=3,
        )
    return _joined([kept, left])


def _divided(manifest: pd.DataFrame, part: Source, data: Data, seed: int) -> pd.DataFrame:
    """The scans of one of a recipe's datasets that are used, divided by its own split."""
    seed = seed if data.seed is None else data.seed
    manifest = _taking_part(manifest, data)
    if manifest.empty:
        raise GroundglassError(f"{part.dataset}: none of its scans belongs to the recipe's classes")
    if data.per_class is not None:
        manifest = _drawn(manifest, data, data.per_class, seed)
    return divided_by(manifest, part, seed)


def divided_by(manifest: pd.DataFrame, part: Source, seed: int) -> pd.DataFrame:
    """All scans of a dataset, divided by its own split; errors as in :func:`groundglass.data.splits.split`."""
    return split(manifest, part.split, seed=seed, fractions=part.fractions, folds=part.folds, fold=part.fold)


def _check_classes(manifest: pd.DataFrame, data: Data) -> None:
    absent = [name for name in data.classes or () if not (manifest["label"] == name).any()]
    if absent:
        there = ", ".join(sorted(set(manifest["label"])))
        raise GroundglassError(
            f"data.classes: no scan is labelled {', '.join(absent)}; the labels here are {there}"
        )


def _taking_part(manifest: pd.DataFrame, data: Data) -> pd.DataFrame:
    if data.classes is None:
        return manifest
    return manifest[manifest["label"].isin(data.classes)].reset_index(drop=True)


def _drawn(manifest: pd.DataFrame, data: Data, count: int, seed: int) -> pd.DataFrame:
    """``count`` scans of each class, drawn by the seed regardless of the order of the rows."""
    classes = data.classes_of(manifest["label"])
    generator = np.random.default_rng(seed)
    kept: set[str] = set()
    for name, rows in manifest.groupby(classes, sort=True):
        if len(rows) < count:
            raise GroundglassError(f"data.per_class {count}: there are only {len(rows)} scans of {name}")
        kept.update(generator.choice(sorted(rows["path"]), count, replace=False))
    return manifest[manifest["path"].isin(kept)].reset_index(drop=True)
