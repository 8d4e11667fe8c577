"""The web page: static files, which are read and packed when the server starts."""

import gzip
import hashlib
import mimetypes
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response

PLACE = "/page"
VERSION_MARK = b"{version}"
"""Placeholder in ``index.html`` for the version, which is part of the addresses of all other files."""
COLOURS = "colours.css"
"""The colours, shared by the page and the reports."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The page loads only its own files, and no text can be inserted as HTML or as a script."""
FOREVER, ASK = "public, max-age=31536000, immutable", "no-cache"


def page_files() -> dict[str, bytes]:
    """The files of the page, by name."""
    package = files("groundglass")
    found = {one.name: one.read_bytes() for one in (package / "serve" / "page").iterdir() if one.is_file()}
    return {**found, COLOURS: (package / "report" / "templates" / COLOURS).read_bytes()}


def page_router() -> APIRouter:
    """``/`` is the page; its other files have the version in their address, so that browsers can cache them."""
    content = page_files()
    version = hashlib.sha256(b"".join(content[name] for name in sorted(content))).hexdigest()[:16]
    index = content.pop("index.html").replace(VERSION_MARK, version.encode())
    packed = {name: gzip.compress(one, 9, mtime=0) for name, one in {"": index, **content}.items()}
    plain = {"": index, **content}
    router = APIRouter(include_in_schema=False)

    def send(name: str, accepted: str, keep: str, headers: dict[str, str]) -> Response:
        short = "gzip" in accepted
        headers = {"Cache-Control": keep, "Vary": "Accept-Encoding", **headers}
        if short:
            headers["Content-Encoding"] = "gzip"
        kind = mimetypes.guess_type(name or "index.html")[0]
        return Response((packed if short else plain)[name], media_type=kind, headers=headers)

    @router.get("/")
    def index_page(accept_encoding: Annotated[str, Header()] = "") -> Response:
        return send("", accept_encoding, ASK, {"Content-Security-Policy": POLICY})

    @router.get(f"{PLACE}/{version}/{{name}}")
    def page_file(name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
        if name not in content:
            raise HTTPException(404, "there is no such file")
        return send(name, accept_encoding, FOREVER, {})

    return router
