"""What the pairs of scans that show the same picture come to: sets of them, and pairs that differ in something."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.material import Material
from groundglass.audit.measure.most import SHOWN
from groundglass.audit.measure.twins import Twin, clusters


def sets(count: int, twins: Iterable[Twin]) -> list[list[int]]:
    """Put together what is linked by pairs.

    Parameters
    ----------
    count
        How many scans there are.
    twins
        Some pairs of them, the worst first.

    Returns
    -------
    Places of the scans of each set; the sets, and the scans in each, in the order in which the pairs name them.
    """
    pairs = list(twins)
    cluster = clusters(count, ((twin.first, twin.second) for twin in pairs))
    found: dict[int, dict[int, None]] = {}
    for twin in pairs:
        found.setdefault(int(cluster[twin.first]), {}).update({twin.first: None, twin.second: None})
    return [list(members) for members in found.values()]


def pictures(material: Material, found: Iterable[Iterable[int]]) -> tuple[tuple[str, ...], ...]:
    """Files of the first sets, no more than SHOWN."""
    return tuple(tuple(material.paths[[*members]].tolist()) for members in [*found][:SHOWN])


def touched(count: int, twins: Iterable[Twin]) -> NDArray[np.bool_]:
    """Which of ``count`` scans are in one of some pairs, shape (scans,)."""
    among = np.zeros(count, dtype=bool)
    among[[place for twin in twins for place in (twin.first, twin.second)]] = True
    return among


def differing(twins: Iterable[Twin], values: NDArray[np.str_]) -> list[Twin]:
    """Find scans that show the same picture and differ in a value, such as their label.

    Parameters
    ----------
    twins
        As :func:`groundglass.audit.measure.twins.find_twins` gives them.
    values
        Of each scan, str, shape (scans,); a blank one is unknown and differs from none.

    Returns
    -------
    The pairs, the most alike first; of equal files at least one pair for each file that is so.
    """
    pairs = list(twins)
    found = {
        twin
        for twin in pairs
        if twin.how != "same file" and "" != values[twin.first] != values[twin.second] != ""
    }
    for members in sets(len(values), (twin for twin in pairs if twin.how == "same file")):
        found.update(_unequal_copies([place for place in members if values[place] != ""], values))
    return sorted(found, key=alikeness)


def alikeness(twin: Twin) -> tuple[float, int, int]:
    """What pairs are sorted by, so that the most alike come first."""
    return -twin.likeness, twin.first, twin.second


def _unequal_copies(members: list[int], values: NDArray[np.str_]) -> Iterator[Twin]:
    """Each of some equal files with the first one that has another value."""
    for value in {values[place] for place in members}:
        partner = next((place for place in members if values[place] != value), None)
        if partner is not None:
            for place in members:
                if values[place] == value:
                    yield Twin(min(place, partner), max(place, partner), 1.0, "same file")


def counted(count: int, noun: str) -> str:
    """A number of things, such as ``2 pairs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def compared(word: str) -> tuple[str, ...]:
    """Header of the rows of :func:`rows_of`, for scans that are compared in what ``word`` says."""
    return ("One slice", f"Its {word}", "Other slice", f"{word.capitalize()} of the other", "Likeness", "How")


def rows_of(
    material: Material, twins: Iterable[Twin], values: NDArray[np.str_]
) -> tuple[tuple[str, ...], ...]:
    """A row for each pair: its files, their values, how alike they are, and in which way."""
    return tuple(
        (
            str(material.paths[twin.first]),
            str(values[twin.first]),
            str(material.paths[twin.second]),
            str(values[twin.second]),
            f"{twin.likeness:.3f}",
            "mirror image" if twin.mirrored else twin.how,
        )
        for twin in twins
    )
