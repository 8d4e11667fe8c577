"""Write files so that a killed process or a full disk never leaves a partial one, and hash them."""

import csv
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from groundglass.errors import GroundglassError


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that replaces it when the block ends without an error.

    Raises
    ------
    GroundglassError
        If the folder cannot be written or the disk is full; ``path`` is then unchanged.
    """
    encoding = None if "b" in mode else "utf-8"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115
            mode,
            encoding=encoding,
            newline="" if encoding else None,
            dir=path.parent,
            prefix=f".{path.name}.",
            delete=False,
        )
    except OSError as error:
        raise GroundglassError(f"{path}: cannot be written ({reason_of(error)})") from error
    temporary = Path(handle.name)
    try:
        with handle:
            yield handle
        os.chmod(temporary, 0o666 & ~umask())  # noqa: PTH101
        temporary.replace(path)
    except OSError as error:
        raise GroundglassError(f"{path}: cannot be written ({reason_of(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def reason_of(error: OSError) -> str:
    """The reason of a disk error in one line; libraries put whole tracebacks into its text."""
    return error.strerror or str(error).partition("\n")[0]


def umask() -> int:
    """The permission bits that the process removes from new files."""
    value = os.umask(0)
    os.umask(value)
    return value


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    with replacing(path) as handle:
        handle.write(text)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table with these columns in one step; missing values and None are blank."""
    with replacing(path) as handle:
        writer = csv.DictWriter(handle, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step."""
    with replacing(path, "wb") as handle:
        handle.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def unique_names(files: Iterable[Path]) -> dict[Path, str]:
    """A name for each file: its stem, or ``slice-2`` for the second file called ``slice``.

    Names that differ only in case count as the same, as on some file systems.
    """
    taken: set[str] = set()
    names: dict[Path, str] = {}
    for path in dict.fromkeys(files):
        name, number = path.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def refuse_overwriting(files: Iterable[Path], written: Iterable[Path]) -> None:
    """Raise GroundglassError if a file that is to be read would be overwritten."""
    outputs = {path.resolve() for path in written}
    for path in files:
        if path.resolve() in outputs:
            raise GroundglassError(f"{path}: would be overwritten; choose another folder with -o")


def address_of(output: Path) -> str | None:
    """The address, such as ``s3://bucket/results``, that a path represents; None for a folder.

    A path has lost one of the slashes after the colon.
    """
    found = re.fullmatch(r"([a-z][a-z0-9+.]+):/+(.*)", output.as_posix())
    if found is None:
        return None
    protocol, rest = found.groups()
    return f"{protocol}://{'/' if protocol in ('file', 'local') else ''}{rest}"
