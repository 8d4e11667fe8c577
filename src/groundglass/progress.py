"""Progress bars on standard error, if it is a terminal."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
SHORT = 8
"""No bar is drawn for up to this many items: it would disappear too quickly."""
LINE_EVERY = 60.0
"""Seconds between two lines of :func:`rated`."""


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


@contextmanager
def rated(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` are done, the rate and the remaining time; call what it yields as in counting.

    On a terminal this is a bar; elsewhere, such as in the log of a cluster, it is a line every minute.
    """
    started = shown = time.monotonic()
    done = 0

    def words() -> str:
        passed = time.monotonic() - started
        left = f", {duration(passed / done * (total - done))} left" if done else ""
        return f"{done} of {total} {what}, {60 * done / max(passed, 1e-9):.1f} a minute{left}"

    if quiet():
        yield lambda more: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        bar = Progress(
            BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True
        )
        with bar:
            task = bar.add_task(words(), total=total)

            def draw(more: int) -> None:
                nonlocal done
                done += more
                bar.update(task, completed=done, description=words())

            yield draw
    else:

        def tell(more: int) -> None:
            nonlocal done, shown
            done += more
            if done == total or time.monotonic() - shown > LINE_EVERY:
                shown = time.monotonic()
                print(words(), file=sys.stderr, flush=True)

        yield tell


def duration(seconds: float) -> str:
    """A time in words, such as "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
