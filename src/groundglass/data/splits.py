"""Divide a manifest into training, validation and test sets, and into folds.

``grouped``, and the folds of ``official``, keep scans that belong together (:func:`groups`) in one part;
``blocks`` keeps neighbouring numbers together; ``random`` does neither and warns.
"""

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.data.dataset import BLOCK, DEFAULT_FRACTIONS, Fractions, Scheme
from groundglass.data.manifest import PARTS
from groundglass.data.registry import DATASETS
from groundglass.errors import GroundglassError, count_of
from groundglass.scan.find import natural_key

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


MOSTLY = 0.9
"""Files count as numbered if the names of at least this share end in a number."""


class LeakageWarning(UserWarning):
    """Slices of one patient may be in different parts of a split, which makes scores too optimistic."""


def groups(manifest: pd.DataFrame) -> pd.Series:
    """Return for each scan the unit that must stay in one part.

    This is the group from :func:`named_groups` unless that is blank. Otherwise, in datasets whose slices are
    numbered by patient but have no ids (sarscov2-ct), it is an assumed block of 21 contiguous numbers of a class,
    such as ``block:covid:0003``; in other datasets it is the file itself.
    """
    columns = named_groups(manifest), manifest["source"], manifest["label"], manifest["path"]
    rows = zip(*columns, strict=True)
    return pd.Series([name or _block(*rest) or rest[2] for name, *rest in rows], index=manifest.index)


def named_groups(manifest: pd.DataFrame) -> pd.Series:
    """Return the group that a manifest names for each scan, blank if it names none.

    This is the optional column ``group``, which may be coarser than a patient (a paper, a guess), or
    ``patient`` if that is blank.
    """
    if "group" not in manifest:
        return manifest["patient"]
    return manifest["group"].where(manifest["group"] != "", manifest["patient"])


def _block(source: str, label: str, path: str) -> str:
    if source not in DATASETS or DATASETS[source].groups != "numbered":
        return ""
    numbers = re.findall(r"[0-9]+", Path(path).stem)
    return f"block:{label}:{(int(numbers[-1]) - 1) // BLOCK:04d}" if numbers else ""


def split(
    manifest: pd.DataFrame,
    scheme: Scheme,
    *,
    seed: int = 0,
    fractions: Fractions | None = None,
    folds: int | None = None,
    fold: int = 0,
) -> pd.DataFrame:
    """Fill the column ``split`` of a manifest.

    Parameters
    ----------
    scheme
        ``official``: as in the manifest. ``grouped``: groups stay together, and each part gets the same mix of
        classes. ``blocks``: in each source and class the lowest numbers are for training, the next for
        validation and the highest for testing; the seed has no effect. ``random``: slice by slice, with the
        same mix of classes in each part.
    seed
        The same seed gives the same parts, regardless of the order of the rows.
    fractions
        Shares of training, validation and test, which add up to 1; 0 leaves a part out. By default the
        dataset's own shares, or else 0.7, 0.15, 0.15.
    folds, fold
        k-fold cross-validation. The test set (the official one, or the third share in ``fractions``) is set aside
        first and is the same for every fold. The rest is divided into ``folds``; number ``fold``, from 0, is the
        validation set. The folds of ``official`` are ``grouped``.

    Returns
    -------
    A copy with ``split`` filled and the rows in the same order.

    Raises
    ------
    GroundglassError
        If the scheme, a share or a fold is invalid, a class has too few groups or slices for the parts,
        ``official`` finds rows without a part, or ``blocks`` would divide a known patient.

    Warns
    -----
    LeakageWarning
        For ``random``; for ``grouped`` if scans without a patient id each count as a separate patient; for
        ``official`` if a patient is in two parts.
    """
    if scheme not in get_args(Scheme):
        raise GroundglassError(f"{scheme}: no such split; there are {', '.join(get_args(Scheme))}")
    if scheme == "official":
        return _official(manifest, seed, folds, fold)
    fractions = _checked_fractions(fractions or _own_fractions(manifest))
    plan = _Plan.of(fractions) if folds is None else _Plan.of_folds(folds, fold, fractions[2])
    if scheme == "grouped":
        return _grouped(manifest, plan, seed)
    return _blocks(manifest, plan) if scheme == "blocks" else _random(manifest, plan, seed)


def best_split(manifest: pd.DataFrame, *, validation: bool = False) -> Scheme:
    """The most trustworthy scheme by which a manifest can be divided.

    ``official`` if all scans have a part and there is one to train and one to evaluate on; else ``grouped`` if
    patients are named; else ``blocks`` if files are numbered; else ``random``. A scheme that fails because a
    class has too few patients or scans is skipped.

    Parameters
    ----------
    validation
        Take ``official`` only if there is a validation set.
    """
    parts = set(manifest["split"])
    if "" not in parts and "train" in parts and ("val" in parts or ("test" in parts and not validation)):
        return "official"
    known = (named_groups(manifest) != "").any()
    numbered = np.mean([re.search(r"[0-9]\D?$", Path(path).stem) is not None for path in manifest["path"]])
    candidates: list[Scheme] = ["grouped"] if known else []
    candidates += ["blocks"] if numbered >= MOSTLY else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakageWarning)
        for scheme in candidates:
            try:
                split(manifest, scheme)
            except GroundglassError as error:
                log.info("a %s split is not possible: %s", scheme, error)
                continue
            return scheme
    return "random"


@dataclass(frozen=True)
class _Plan:
    """The parts to make, in the order in which ``blocks`` fills them, and their shares, all above 0."""

    names: NDArray[np.str_]
    shares: Floats

    @classmethod
    def of(cls, fractions: Sequence[float], names: Sequence[str] = PARTS) -> "_Plan":
        given = np.array(fractions) > 0
        return cls(np.array(names)[given], np.array(fractions)[given])

    @classmethod
    def of_folds(cls, folds: int, fold: int, test: float) -> "_Plan":
        if folds < 2 or not 0 <= fold < folds:
            raise GroundglassError(f"fold {fold} of {folds}: at least 2 folds are needed, numbered from 0")
        names = ["val" if number == fold else "train" for number in range(folds)]
        return cls.of([(1 - test) / folds] * folds + [test], [*names, "test"])


def _checked_fractions(fractions: Fractions) -> Fractions:
    train = fractions[0]
    if len(fractions) != 3 or not (train > 0 and min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-6):
        raise GroundglassError(
            f"fractions {', '.join(f'{value:g}' for value in fractions)}: three shares are needed, for training "
            "(over 0), validation and test, which add up to 1"
        )
    return fractions


def _own_fractions(manifest: pd.DataFrame) -> Fractions:
    sources = set(manifest["source"])
    dataset = DATASETS.get(sources.pop()) if len(sources) == 1 else None
    return dataset.fractions if dataset else DEFAULT_FRACTIONS


def _official(manifest: pd.DataFrame, seed: int, folds: int | None, fold: int) -> pd.DataFrame:
    without = manifest[manifest["split"] == ""]
    if len(without):
        raise GroundglassError(
            f"there is no official split: no part is given for {len(without)} of {len(manifest)} scans (first: "
            f"{without['path'].iloc[0]}); use grouped, or blocks if slices are numbered"
        )
    result = manifest.copy()
    if folds is not None:
        rest = manifest[manifest["split"] != "test"]
        plan = _Plan.of_folds(folds, fold, test=0.0)
        result.loc[rest.index, "split"] = _grouped(rest, plan, seed)["split"]
    if torn := _torn(result):
        _warn(f"the official split puts slices of one patient into different parts: {_some(torn)}")
    return result


def _grouped(manifest: pd.DataFrame, plan: _Plan, seed: int) -> pd.DataFrame:
    unit = groups(manifest)
    alone = int((unit == manifest["path"]).sum())
    if alone:
        _warn(
            f"no patient id for {alone} of {len(manifest)} scans, which are each taken as a separate patient: "
            "slices of one patient may be in different parts, which makes scores too optimistic"
        )
    table = pd.crosstab(unit, manifest["label"])
    part = _share_out(table, plan.shares, np.random.default_rng(seed))
    return manifest.assign(split=plan.names[part[table.index.get_indexer(pd.Index(unit))]])


def _share_out(table: pd.DataFrame, shares: Floats, rng: np.random.Generator) -> Indices:
    """Assign each group to a part, so that every class comes close to the shares.

    This is the greedy method of scikit-learn's StratifiedGroupKFold, which supports only equal folds: large groups
    first, each where it reduces the distance most. The distance is Pearson's chi-squared from the target counts.

    Parameters
    ----------
    table
        Slices of each group (rows) and class (columns).

    Returns
    -------
    The part of each group.
    """
    counts = table.to_numpy(dtype=np.float64)
    target = shares[:, None] * counts.sum(axis=0)
    shuffled = rng.permutation(len(counts))
    part = _one_of_each(counts, target, shuffled, [str(label) for label in table.columns])
    have = np.stack([counts[part == index].sum(axis=0) for index in range(len(shares))])
    large_first = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    for group in large_first[part[large_first] < 0]:
        distance = ((2 * (have - target) + counts[group]) * counts[group] / target).sum(axis=1)
        part[group] = np.argmin(distance)
        have[part[group]] += counts[group]
    return part


def _one_of_each(counts: Floats, target: Floats, shuffled: Indices, labels: list[str]) -> Indices:
    """Give every part one group of each class, so that no part lacks a class; the other groups get -1.

    Groups with a single class go first. With two classes this always succeeds if each has at least as many
    groups as there are parts.
    """
    having = (counts > 0).sum(axis=0)
    part = np.full(len(counts), -1)
    for label in np.argsort(having, kind="stable"):
        for index in np.argsort(target[:, label], kind="stable"):
            if counts[part == index, label].any():
                continue
            free = [group for group in shuffled if part[group] < 0 and counts[group, label] > 0]
            if not free:
                raise _too_few(labels[label], f"{having[label]} patients or groups", len(target))
            slices = counts[free, label]
            excess = np.where(slices > target[index, label], slices, 0)
            chosen = np.lexsort((excess, (counts[free] > 0).sum(axis=1)))[0]
            part[free[chosen]] = index
    return part


def _blocks(manifest: pd.DataFrame, plan: _Plan) -> pd.DataFrame:
    result = _cut(manifest, plan, lambda paths: sorted(paths, key=natural_key))
    if torn := _torn(result):
        raise GroundglassError(
            f"blocks would put slices of one patient into different parts: {_some(torn)}; patients are known here, "
            "so use grouped"
        )
    return result


def _random(manifest: pd.DataFrame, plan: _Plan, seed: int) -> pd.DataFrame:
    _warn(
        "a random split puts similar slices of one patient into different parts, which makes scores too optimistic "
        "(in sarscov2-ct, a nearest neighbour is right for 93% of the slices with a random split, 61% with blocks)"
    )
    rng = np.random.default_rng(seed)
    return _cut(manifest, plan, lambda paths: list(rng.permutation(sorted(paths))))


def _cut(manifest: pd.DataFrame, plan: _Plan, order: Callable[[list[str]], list[str]]) -> pd.DataFrame:
    """Order the scans of each source and class, and cut them into parts with the planned shares."""
    parts: dict[str, str] = {}
    for (_, label), rows in manifest.groupby(["source", "label"], sort=True):
        if len(rows) < len(plan.shares):
            raise _too_few(str(label), count_of(len(rows), "slice"), len(plan.shares))
        sizes = _sizes(len(rows), plan.shares)
        parts.update(zip(order(list(rows["path"])), np.repeat(plan.names, sizes), strict=True))
    return manifest.assign(split=manifest["path"].map(parts))


def _sizes(count: int, shares: Floats) -> Indices:
    """Integers of at least 1 that are close to ``shares`` of ``count`` and add up to it."""
    ends = np.rint(np.cumsum(shares) * count).astype(np.intp)
    sizes = ends - np.concatenate([[0], ends[:-1]])
    while (sizes == 0).any():
        sizes[np.argmin(sizes)] += 1
        sizes[np.argmax(sizes)] -= 1
    return sizes


def _torn(manifest: pd.DataFrame) -> list[str]:
    known = manifest[manifest["patient"] != ""]
    parts = known.groupby("patient")["split"].nunique()
    return [str(patient) for patient in parts.index[parts > 1]]


def _some(patients: list[str]) -> str:
    return f"patients ({len(patients)} in all, first: {patients[0]})"


def _too_few(label: str, have: str, parts: int) -> GroundglassError:
    return GroundglassError(
        f"class {label} has only {have} for {parts} parts; use fewer folds, or a share of 0 for a part"
    )


def _warn(message: str) -> None:
    warnings.warn(message, LeakageWarning, stacklevel=4)
