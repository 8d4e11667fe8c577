"""Sorting names as people do."""

import re
from pathlib import Path


def natural_key(path: Path | str) -> list[tuple[int, int | str]]:
    """Sort key by which ``slice 9`` comes before ``slice 10``."""
    return [
        (0, int(part)) if part.isdigit() else (1, part.lower())
        for part in re.split(r"([0-9]+)", str(path))
        if part
    ]
