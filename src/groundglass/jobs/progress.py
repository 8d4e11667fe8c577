"""Progress bars on standard error, where someone is there to see them."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SHORT = 8
"""Up to so many items no bar is drawn: it would be gone before it is read."""


def track(items: Iterable[T], text: str, total: int) -> Iterator[T]:
    """Pass items on, with a bar on standard error if that is a terminal."""
    if total <= SHORT or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, text, total=total, console=Console(stderr=True), transient=True)
