"""Receive an upload: a form with files, or a ZIP, is written to the disk as it arrives."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from groundglass.store.upload import Receiving, RefusedError, Upload

FIELD = "files"
FORM, ZIP = "multipart/form-data", "application/zip"
PIECE = 1 << 18
"""Number of bytes passed to a thread at a time."""
DRAINED, DRAINING = 32 << 20, 5
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Files of one study: DICOM, NIfTI, PNG or JPEG, or ZIPs of them.",
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "additionalProperties": False,
                    "properties": {
                        FIELD: {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        }
                    },
                }
            },
            ZIP: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""The body's documentation."""


async def receive(request: Request, upload: Upload) -> None:
    """Write the files of a request's body.

    Raises
    ------
    RefusedError
        If a limit is exceeded, or the disk is full.
    HTTPException
        If the body is neither such a form nor a ZIP.
    """
    media, options = parse_options_header(request.headers.get("content-type", ""))
    if media == ZIP.encode():
        body: _Zip | _Form = _Zip(upload)
    elif media == FORM.encode() and options.get(b"boundary"):
        body = _Form(upload, options[b"boundary"])
    else:
        raise HTTPException(415, f"send {FORM} with the field `{FIELD}`, or {ZIP}")
    async for piece in pieces(request):
        await run_in_threadpool(body.write, piece)
    await run_in_threadpool(body.end)


async def drain(request: Request) -> None:
    """Read the rest of a body, for a limited time: a client that is still sending may not read the response."""
    left = DRAINED
    with suppress(
        RuntimeError, TimeoutError, ClientDisconnect
    ):  # it was already read, or the client is slow or gone
        async with asyncio.timeout(DRAINING):
            async for chunk in request.stream():
                left -= len(chunk)
                if left < 0:
                    break


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """A body as it arrives, in parts large enough for a thread."""
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= PIECE:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


class _Zip:
    """A body that is a single file."""

    def __init__(self, upload: Upload) -> None:
        self._file = upload.file("upload.zip")
        self._first = b""

    def write(self, data: bytes) -> None:
        self._first = self._first or data[:2]
        self._file.write(data)

    def end(self) -> None:
        if self._first != b"PK":
            raise RefusedError(422, "the body is not a ZIP file, or is damaged", "send its files in a form")
        self._file.close()


class _Form:
    """A body that is a form, parsed as it arrives."""

    def __init__(self, upload: Upload, boundary: bytes) -> None:
        self._upload = upload
        self._file: Receiving | None = None
        self._header, self._value, self._disposition = b"", b"", b""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise RefusedError(422, "the form is damaged", "send it again") from error

    def end(self) -> None:
        if not self._ended:
            raise RefusedError(422, "the form ends too early", "send it again")

    def _begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD.encode():
            raise RefusedError(422, "the form has another field", f"send files only in the field `{FIELD}`")
        if b"filename" not in options:
            raise RefusedError(422, f"the field `{FIELD}` is not a file", "send it with a file name")
        self._file = self._upload.file(options[b"filename"].decode("utf-8", "replace"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])

    def _part_end(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _end(self) -> None:
        self._ended = True
