"""Download files over HTTP, resuming broken downloads, and unpack archives safely."""

# Why not pooch: it restarts a broken download from the beginning, whereas fetch() resumes it.

import errno
import shutil
import socket
import stat
import time
import zipfile
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from groundglass import __version__
from groundglass.errors import GroundglassError, count_of

CHUNK = 1 << 18
TIMEOUT = 30.0
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP status codes after which a retry may succeed."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes received so far and the total, None if the server does not say."""


class DownloadError(GroundglassError):
    """A file that could not be downloaded."""


def fetch(
    url: str, path: Path, *, progress: Progress | None = None, tries: int = 5, pause: float = 1.0
) -> None:
    """Download ``url`` to ``path``, which appears only once it is complete.

    A partial download is kept beside it with the suffix ``.part``. A later try, in this call or another, asks
    the server for the rest (RFC 9110, section 14), and starts over if the server sends the whole file.

    Parameters
    ----------
    tries
        Number of attempts if the connection breaks or the server is busy.
    pause
        Seconds to wait before the second try; doubled before each further try.

    Raises
    ------
    DownloadError
        If the server refuses or cannot be found, or the connection fails ``tries`` times.
    GroundglassError
        If the file cannot be written, for instance because the disk is full.
    """
    part = path.with_name(f"{path.name}.part")
    for attempt in range(tries):
        try:
            _fetch_rest(url, part, progress)
            break
        except HTTPError as error:
            if error.code == 416:
                part.unlink(missing_ok=True)  # the partial file is not the start of the server's file
            elif error.code not in BUSY:
                raise DownloadError(f"{url}: the server answered {error.code} {error.reason}") from error
            failure: Exception = error
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            if isinstance(getattr(error, "reason", None), socket.gaierror):
                raise DownloadError(f"{url}: the server cannot be found; is there a network?") from error
            failure = error
        if attempt + 1 == tries:
            reason = getattr(failure, "reason", failure)
            raise DownloadError(
                f"{url}: could not be downloaded in {count_of(tries, 'attempt')} ({reason}); the partial file "
                "is kept, so the next call resumes"
            ) from failure
        time.sleep(pause * 2**attempt)
    part.replace(path)


def _fetch_rest(url: str, part: Path, progress: Progress | None) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"groundglass/{__version__}"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
        resumed = response.status == 206 and response.headers["Content-Range"].startswith(f"bytes {done}-")
        if response.status == 206 and not resumed:
            raise HTTPError(url, 416, "a different range than requested", response.headers, None)
        if not resumed:
            done = 0
            _append(part, b"", "wb")
        length = response.headers["Content-Length"]
        total = done + int(length) if length else None
        while chunk := response.read(CHUNK):
            _append(part, chunk)
            done += len(chunk)
            if progress:
                progress(done, total)
    if total is not None and done != total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _append(part: Path, chunk: bytes, mode: Literal["ab", "wb"] = "ab") -> None:
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open(mode, buffering=0) as handle:
            handle.write(chunk)
    except OSError as error:
        raise _unwritable(part, error) from error


def _unwritable(path: Path, error: OSError) -> GroundglassError:
    if error.errno == errno.ENOSPC:
        return GroundglassError(f"{path}: the disk is full; free some space and run the command again")
    return GroundglassError(f"{path}: cannot be written ({error.strerror or error})")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive as ``folder``, which appears only once it is complete.

    If a single folder contains everything in the archive, its contents move up; macOS's extra files are skipped.

    Raises
    ------
    DownloadError
        If the archive is damaged, or an entry is a link or points outside the folder; then nothing is kept.
    GroundglassError
        If the files cannot be written.
    """
    staging = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [entry for entry in source.infolist() if _is_content(entry)]
            for entry in entries:
                _refuse_unsafe(archive, entry)
            for entry in entries:
                source.extract(entry, staging)
        inner = list(staging.iterdir())
        (inner[0] if len(inner) == 1 and inner[0].is_dir() else staging).replace(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(
            f"{archive}: is not a complete zip archive ({error}); download it again"
        ) from error
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_content(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    return not entry.is_dir() and "__MACOSX" not in parts and parts[-1] != ".DS_Store"


def _refuse_unsafe(archive: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.filename.replace("\\", "/")
    outside = name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/")
    if outside or stat.S_ISLNK(entry.external_attr >> 16):
        raise DownloadError(
            f"{archive}: the entry {entry.filename} is a link or points outside; not unpacked"
        )
