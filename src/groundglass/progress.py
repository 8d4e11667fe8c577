"""Progress bars on standard error, if it is a terminal."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
SHORT = 8
"""For up to this many items no bar is drawn: it would disappear too quickly."""


def quiet() -> bool:
    """Whether the user asked for only results and errors, with ``--quiet``."""
    return not logging.getLogger("groundglass").isEnabledFor(logging.WARNING)


def track(items: Iterable[T], text: str, total: int) -> Iterator[T]:
    """Pass items on, with a bar on standard error if that is a terminal."""
    with counting(text, total) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def counting(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if a terminal; call the yielded function with the number of items just done."""
    if total <= SHORT:
        yield lambda done: None
        return
    with counting_to(text) as show:
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            show(done, total)

        yield advance


@contextmanager
def counting_to(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if a terminal and not quiet; call the yielded function with done and total."""
    if quiet() or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
