"""Errors as RFC 9457 problem details, with the command line's texts; none contains a file's name or content."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from groundglass.errors import place_of
from groundglass.store.upload import RefusedError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """A problem with a request.

    Attributes
    ----------
    type
        Always ``about:blank``: the status says what kind of problem it is.
    title
        The status in words.
    status
        The HTTP status.
    detail
        What is wrong, and what to do about it.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def problem(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A response that states the problem."""
    title = HTTPStatus(status).phrase
    content = Problem(title=title, status=status, detail=detail or title).model_dump()
    return JSONResponse(content, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """An operation's errors, for its documentation."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def add_handlers(app: FastAPI, allowed: Callable[[str], str]) -> None:
    """Turn every error of an application into a problem; ``allowed`` returns the methods that a URL accepts."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": allowed(request.url.path) or "GET"}
        return problem(error.status_code, str(error.detail), headers)

    @app.exception_handler(RefusedError)
    async def _refused(request: Request, error: RefusedError) -> JSONResponse:
        return problem(error.status, str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:2])
        return problem(422, f"{where}: {first['msg']}" if where else str(first["msg"]))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed: %s", place_of(error))
        return problem(500, "an error in Groundglass; please report it, with the time at which it happened")
