"""Results at an address that fsspec understands, such as ``s3://bucket/results``.

A study's results are written to its worker's own disk and then copied, ``findings.json`` last. As in a
folder, the study counts as done once that file exists.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from groundglass.commands.study import FINDINGS
from groundglass.errors import GroundglassError
from groundglass.scan.studies import KEY_FILE, key_of

PROBLEMS = (OSError, ValueError, ImportError, RuntimeError)
"""Exceptions that fsspec's file systems raise if they are unreachable, not writable or not installed."""


class Remote:
    """Results at an fsspec address.

    Parameters
    ----------
    address
        Such as ``s3://bucket/results``.

    Raises
    ------
    GroundglassError
        If fsspec does not know this kind of address, or needs a package that is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
        except PROBLEMS as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> GroundglassError:
        return GroundglassError(f"{self.address}: cannot be written ({str(error).partition(chr(10))[0]})")

    def put(self, study: Path) -> None:
        """Copy a study's local folder to the address, replacing an existing one, and delete the local folder.

        Raises
        ------
        GroundglassError
            If it cannot be copied.
        """
        target = f"{self._root}/{study.name}"
        names = sorted((path.name for path in study.iterdir()), key=lambda name: name == FINDINGS)
        try:
            if self._files.exists(target):
                self._files.rm(target, recursive=True)
            self._files.makedirs(target, exist_ok=True)
            for name in names:
                self._files.put_file(str(study / name), f"{target}/{name}")
        except PROBLEMS as error:
            raise self._error(error) from error
        finally:
            shutil.rmtree(study, ignore_errors=True)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A temporary folder with the state of all studies; at the end, its new tables and pages are copied.

        For each study it contains ``findings.json``, and empty files for the other results.

        Raises
        ------
        GroundglassError
            If the address cannot be read or written.
        """
        with tempfile.TemporaryDirectory() as temporary:
            local = Path(temporary)
            try:
                self._fetch(local)
                key_of(local)
                self._copy(local / KEY_FILE, KEY_FILE)
                earlier = {path for path in local.rglob("*") if path.parent != local}
            except PROBLEMS as error:
                raise self._error(error) from error
            try:
                yield local
            finally:
                try:
                    for path in local.rglob("*"):
                        if path.is_file() and path not in earlier and not path.name.endswith(".lock"):
                            self._copy(path, path.relative_to(local).as_posix())
                except PROBLEMS as error:
                    raise self._error(error) from error

    def _copy(self, path: Path, name: str) -> None:
        self._files.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
        self._files.put_file(str(path), f"{self._root}/{name}")

    def _fetch(self, local: Path) -> None:
        """Fetch the key, the tables and each study's findings, and record the names of the other files."""
        if not self._files.exists(self._root):
            return
        for file in self._files.find(self._root):
            name = file[len(self._root) :].lstrip("/")
            target = local / name
            if name.count("/") > 1:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if "/" not in name or target.name == FINDINGS:
                self._files.get_file(file, str(target))
            else:
                target.touch()
