"""A segmenter's masks against the truth."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from groundglass.errors import GroundglassError, ScanError
from groundglass.evaluate.predictions import STRUCTURES
from groundglass.segment.segmenter import Segmenter
from groundglass.train.segmentation.hausdorff import overlap_row
from groundglass.train.segmentation.slices import read_truth

Watch = Callable[[Iterable[Any], int], Iterable[Any]]


def overlaps(
    segmenter: Segmenter, rows: pd.DataFrame, watch: Watch = lambda items, total: items
) -> pd.DataFrame:
    """How a segmenter's masks overlap with the truth: the table of groundglass.evaluate.predictions.

    They are judged as users get them: empty, where the segmenter says that there is a problem.

    Parameters
    ----------
    segmenter
        Whose masks.
    rows
        Manifest rows with the columns ``lungs`` and ``lesions``.
    watch
        Is given the work and its length, and gives it on: where a progress bar comes in.

    Raises
    ------
    ScanError
        If a slice cannot be read.
    GroundglassError
        If a mask cannot be read, or its size is not that of its slice.
    """
    return pd.DataFrame(list(_rows(segmenter, rows, watch)))


def _rows(segmenter: Segmenter, rows: pd.DataFrame, watch: Watch) -> Iterator[dict[str, Any]]:
    paths = [Path(path) for path in rows["path"]]
    answers = watch(segmenter.segment_files(paths), len(paths))
    for (path, answer), (_, row) in zip(answers, rows.iterrows(), strict=True):
        if isinstance(answer, ScanError):
            raise answer
        found = answer[1]
        truth = read_truth(row)
        if truth[0].shape != found.lungs.shape:
            raise GroundglassError(f"{row['lungs']}: its size {truth[0].shape} is not that of {path}")
        masks = (found.trusted_lungs, found.trusted_lesions)
        for structure, predicted, true in zip(STRUCTURES, masks, truth, strict=True):
            yield overlap_row(str(path), row["patient"] or str(path), structure, predicted, true)
