"""Storage for instances from their acknowledgement until they are part of a study.

``node/incoming/SENDER/NUMBER.dcm`` contains the instances of one association, request or fetch, in order of
arrival. An instance is written as ``.part``, synchronised with the disk and renamed; then it is durable.
"""

import os
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from groundglass.store.upload import RefusedError, durable, sync_folder

PART, FINAL = ".part", ".dcm"
META = b"\0" * 128 + b"DICM"


class Inbox:
    """The folder of one sender.

    Parameters
    ----------
    root
        The folder ``incoming``.
    caller
        The sender: an AE title, a peer's name, or ``STOW-RS``.
    room
        Raises RefusedError if the disk is nearly full.
    """

    def __init__(self, root: Path, caller: str, room: Callable[[], None] = lambda: None) -> None:
        self._root, self._room, self._lock, self._count = root, room, threading.Lock(), 0
        self.folder = root / f"{secrets.token_hex(8)}~{re.sub(r'[^A-Za-z0-9_. -]', '_', caller)[:40]}"

    def add(self, pieces: Iterable[bytes]) -> Path:
        """Store one instance; when this returns, it is durable.

        Raises
        ------
        RefusedError
            If the disk is full; then no part of it remains.
        """
        self._room()
        with self._lock:
            if not self._count:
                durable(self.folder.mkdir, 0o777, True, True)
                durable(sync_folder, self._root)
            self._count += 1
            part = self.folder / f"{self._count:07d}{PART}"
        try:
            with part.open("wb") as handle:
                handle.writelines(pieces)
                handle.flush()
                os.fsync(handle.fileno())
            final = part.rename(part.with_suffix(FINAL))
            sync_folder(self.folder)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise RefusedError(
                507, "the server does not have enough disk space for the instance", "try again later"
            ) from error
        return final


def caller_of(folder: Path) -> str:
    """The sender of the instances in a folder."""
    return folder.name.partition("~")[2]


def tidy(root: Path) -> None:
    """At start-up, remove instances that were never acknowledged."""
    for part in root.glob(f"*/*{PART}"):
        part.unlink()
