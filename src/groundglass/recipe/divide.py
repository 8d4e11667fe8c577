"""Choosing and dividing the scans of a recipe's datasets as it says."""

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
    """The scans of all of a recipe's datasets that take part, each dataset divided by its own split.

    Parameters
    ----------
    data
        The recipe's data part.
    seed
        The recipe's seed, for where the data part has none of its own.

    Returns
    -------
    A manifest. Of several datasets, or where a source is left out, ``source`` is nowhere blank: the dataset's
    name stands in. Of several, patients and groups bear their dataset's name, since two may number them alike.
    Where the registry says that two datasets show the same patients, these share a name, and all slices of a
    patient are in the part that the first of the datasets gives; no slice of a patient of the source left out
    trains or chooses.

    Raises
    ------
    GroundglassError
        If a class has no scans or fewer than asked for, they cannot be divided so, two datasets share a source or
        a file, or the source to leave out is none of theirs or the only one.

    Warns
    -----
    LeakageWarning
        As :func:`groundglass.data.splits.split` does, and where patients of the source left out are named as
        others are.
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
    """Move all slices of a patient whom several datasets show into the part that the first dataset gives."""
    several = divided.groupby("patient")["source"].transform("nunique").gt(1) & (divided["patient"] != "")
    first = divided[several].drop_duplicates("patient").set_index("patient")["split"]
    return divided.assign(split=divided["patient"].map(first).where(several, divided["split"]))


def divide(manifest: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """The scans of a recipe's first dataset that take part, with their split filled.

    Parameters
    ----------
    manifest
        All scans.
    data, seed
        As in :func:`divided_scans`.

    Raises
    ------
    GroundglassError
        If a class has no scans or fewer than asked for, or they cannot be divided so.
    """
    _check_classes(manifest, data)
    return _divided(manifest, data, data, seed)


def sources_of(data: Data) -> list[str]:
    """The sources of the scans that take part, in the order of their names.

    Raises
    ------
    GroundglassError
        If two datasets share a source or a file, or one cannot be had.
    """
    return sorted(set(_taking_part(_joined(_tables(data)), data)["source"]))


def named_sources(manifest: pd.DataFrame, name: str) -> pd.DataFrame:
    """A manifest in whose column ``source`` this name stands wherever that is blank."""
    return manifest.assign(source=manifest["source"].where(manifest["source"] != "", name))


def _tables(data: Data) -> list[pd.DataFrame]:
    """The manifests of a recipe's datasets, with their sources named."""
    tables = [named_sources(load_dataset(part.dataset), part.name) for part in data.datasets]
    if not any((table["label"] == POSITIVE).any() for table in tables):
        # One dataset may hold the class that another lacks, but without any covid a label may be misspelt.
        tables = [named_sources(load_labelled(part.dataset), part.name) for part in data.datasets]
    for (one, first), (other, second) in combinations(zip(data.datasets, tables, strict=True), 2):
        if common := set(first["source"]) & set(second["source"]):
            raise GroundglassError(
                f"{other.dataset}: comes from {', '.join(sorted(common))} as {one.dataset} does; each dataset of a "
                "recipe needs sources of its own: leave one out, or correct the column source"
            )
        if shared := _files(first) & _files(second):
            raise GroundglassError(
                f"{other.dataset}: {len(shared)} of its {len(second)} files are those of {one.dataset}; "
                "leave one of the two out"
            )
    if not data.further:
        return tables
    return [_own_names(table, part.name) for table, part in zip(tables, data.datasets, strict=True)]


def _files(manifest: pd.DataFrame) -> set[Path]:
    return {Path(path).resolve() for path in manifest["path"]}


def _own_names(manifest: pd.DataFrame, name: str) -> pd.DataFrame:
    """A manifest whose patients and groups bear the name of the dataset, or of another with the same patients."""
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
            f"data.leave_out: no scan that takes part is from the source {source}; there are {', '.join(known)}"
        )
    if len(known) == 1:
        raise GroundglassError(
            f"data.leave_out: all scans are from {source}, and without it none are left to train on; "
            "the column source of the manifest tells sources apart, data.further names further datasets"
        )


def _leaving_out(source: str, divided: pd.DataFrame, scans: pd.DataFrame) -> pd.DataFrame:
    """The training and validation parts without a source, and all scans from that source as the test part."""
    left = scans[scans["source"] == source].assign(split="test")
    kept = divided[(divided["source"] != source) & (divided["split"] != "test")]
    shared = (set(named_groups(left)) & set(named_groups(kept))) - {""}
    if source in SHARING:
        kept = kept[~named_groups(kept).isin(shared)]
        if kept.empty:
            raise GroundglassError(
                f"data.leave_out: {source} shows all patients of the other datasets, so that nothing is left to "
                "train on; name a further dataset of other patients"
            )
    elif shared:
        warnings.warn(
            f"{len(shared)} patients or groups are named alike in {source} and elsewhere (first: "
            f"{min(shared)}); if they are the same, scores come out too good, else rename them",
            LeakageWarning,
            stacklevel=3,
        )
    return _joined([kept, left])


def _divided(manifest: pd.DataFrame, part: Source, data: Data, seed: int) -> pd.DataFrame:
    """The scans of one of a recipe's datasets that take part, divided by its own split."""
    seed = seed if data.seed is None else data.seed
    manifest = _taking_part(manifest, data)
    if manifest.empty:
        raise GroundglassError(f"{part.dataset}: none of its scans is of the recipe's classes")
    if data.per_class is not None:
        manifest = _drawn(manifest, data, data.per_class, seed)
    return divided_by(manifest, part, seed)


def divided_by(manifest: pd.DataFrame, part: Source, seed: int) -> pd.DataFrame:
    """All scans of a dataset, divided by its own split; errors as of :func:`groundglass.data.splits.split`."""
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
    """``count`` scans of each class, drawn by the seed whatever the order of the rows."""
    classes = data.classes_of(manifest["label"])
    generator = np.random.default_rng(seed)
    kept: set[str] = set()
    for name, rows in manifest.groupby(classes, sort=True):
        if len(rows) < count:
            raise GroundglassError(f"data.per_class {count}: there are only {len(rows)} scans of {name}")
        kept.update(generator.choice(sorted(rows["path"]), count, replace=False))
    return manifest[manifest["path"].isin(kept)].reset_index(drop=True)
