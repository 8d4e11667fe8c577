"""Similarity of pictures and nearest neighbours, for the audit's searches and a bundle's fingerprints."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Window = tuple[float, float, float]
"""Top, left and side of a part of a square picture, as shares of its side."""
WHOLE: Window = (0.0, 0.0, 1.0)
EXHAUSTIVE = 20_000
"""Up to this many vectors, all are compared; above, only those in the nearest clusters."""
PROBED = 12
"""Number of clusters that are searched."""


def small_pictures(grey: NDArray[np.uint8], side: int, window: Window = WHOLE) -> NDArray[np.uint8]:
    """Average a window of each picture, uint8 (slices, height, width), to ``side`` x ``side`` pixels."""
    if not len(grey):
        return np.empty((0, side, side), dtype=np.uint8)
    top, left, length = (round(share * grey.shape[1]) for share in window)
    parts = grey if window == WHOLE else grey[:, top : top + length, left : left + length]
    return np.stack([cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA) for part in parts])


def unit_vectors(pictures: NDArray[np.uint8]) -> Floats:
    """Small pictures as unit vectors, so that their products are correlations.

    Parameters
    ----------
    pictures
        uint8, shape (slices, height, width).

    Returns
    -------
    float32, shape (slices, height * width); all 0 for a picture of one grey.
    """
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)


class NeighbourIndex:
    """Finds the vectors with the largest inner product.

    Parameters
    ----------
    vectors
        float32, shape (vectors, numbers).
    exact
        Compare with all vectors, regardless of their number.
    """

    def __init__(self, vectors: Floats, *, exact: bool = False) -> None:
        import faiss  # slow to import, and detection does not need it

        self._faiss = faiss
        self._few = exact or len(vectors) <= EXHAUSTIVE
        self._index: Any = faiss.IndexFlatIP(vectors.shape[1])
        if not self._few:
            clusters = int(4 * np.sqrt(len(vectors)))
            self._index = faiss.IndexIVFFlat(
                self._index, vectors.shape[1], clusters, faiss.METRIC_INNER_PRODUCT
            )
            self._index.cp.seed = 1
            self._index.nprobe = PROBED
            self._index.train(vectors)
        self._index.add(np.ascontiguousarray(vectors))

    def search(self, queries: Floats, count: int) -> tuple[Floats, NDArray[np.intp]]:
        """The ``count`` nearest vectors to each query.

        Returns
        -------
        Their inner products, descending, and their indices, -1 if there are fewer; both shape (queries,
        count).
        """
        threads = self._faiss.omp_get_max_threads()
        if self._few:  # short searches gain nothing from threads, which wait for each other on a busy machine
            self._faiss.omp_set_num_threads(1)
        try:
            likeness, places = self._index.search(np.ascontiguousarray(queries), count)
        finally:
            self._faiss.omp_set_num_threads(threads)
        return likeness, places.astype(np.intp)
