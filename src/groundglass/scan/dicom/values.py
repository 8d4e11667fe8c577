"""Values: what a DICOM dataset states, as plain Python, with None or "" for what it does not state rightly."""

import math

from pydicom import Dataset
from pydicom.sequence import Sequence


def text(dataset: Dataset, keyword: str) -> str:
    """One value as text without padding, several joined by a backslash; "" where it is missing or damaged."""
    return "\\".join(texts(dataset, keyword))


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Every value as text, in capitals as they are; () where there is none."""
    value = _value(dataset, keyword)
    if value is None or isinstance(value, (bytes, Dataset)):
        return ()
    several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    found = tuple("".join(filter(str.isprintable, str(one))).strip() for one in several)
    return found if any(found) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """One finite number; None where it is missing, damaged or not finite."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def rescale(dataset: Dataset, keyword: str) -> float | None:
    """A number of a rescale: None where it is missing, NaN where it is there but is no finite number."""
    stated = number(dataset, keyword)
    return math.nan if stated is None and text(dataset, keyword) else stated


def numbers(dataset: Dataset, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """Finite numbers, ``count`` of them if given; None where they are missing, damaged or of another count."""
    try:
        values = tuple(float(one.replace(",", ".")) for one in texts(dataset, keyword))
    except ValueError:
        return None
    if not values or (count is not None and len(values) != count) or not all(map(math.isfinite, values)):
        return None
    return values


def whole(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """One whole number; ``default`` where it is missing or damaged."""
    value = number(dataset, keyword)
    return default if value is None else int(value)


def stored_value(dataset: Dataset, keyword: str) -> int | None:
    """A value of type "US or SS", of which implicit syntaxes do not tell the sign; None where it is missing."""
    value = _value(dataset, keyword)
    if isinstance(value, bytes) and len(value) in (2, 4):
        return int.from_bytes(value, "little", signed=False)
    return value if isinstance(value, int) else None


def item(dataset: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty dataset where there is none."""
    several = items(dataset, keyword)
    return several[0] if several else Dataset()


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Every item of a sequence; [] where there is none."""
    value = _value(dataset, keyword)
    return list(value) if isinstance(value, Sequence) else []


def raw_bytes(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of a value; b"" where it is missing."""
    value = _value(dataset, keyword)
    return value if isinstance(value, bytes) else b""


def _value(dataset: Dataset, keyword: str) -> object:
    try:
        return dataset.get(keyword)
    except Exception:  # on damaged bytes pydicom's converters raise nearly any kind
        return None
