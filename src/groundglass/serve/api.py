"""The operations of the REST API."""

import asyncio
import mimetypes
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import AwareDatetime, BeforeValidator
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from groundglass import __version__
from groundglass.errors import GroundglassError
from groundglass.report.followup import follow_up
from groundglass.serve.auth import Access, User, needs
from groundglass.serve.models import (
    Accepted,
    BundleInfo,
    FileSent,
    Health,
    Log,
    LogLine,
    Progress,
    Search,
    Session,
    SignIn,
    State,
    StudyDetails,
    StudyEvent,
    StudyList,
    StudySummary,
    Verdict,
)
from groundglass.serve.problems import responses
from groundglass.serve.server import Server
from groundglass.serve.uploads import BODY, drain, receive
from groundglass.serve.view import INDEX, PACKED, VIEW
from groundglass.store import history, queue
from groundglass.store.access import events, record
from groundglass.store.history import Entry
from groundglass.store.intake import accept
from groundglass.store.upload import RESULTS, STUDIES, RefusedError, Upload

WAIT = 10.0
"""Seconds that an upload waits for its turn before the client is asked to try again."""
LOOK = 0.5
"""Seconds between two checks of a study whose events are sent."""
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'; sandbox allow-scripts allow-popups"
)
"""A report contains its script and pictures; in a sandbox it cannot act on behalf of the person viewing it."""


def _date(value: str) -> str:
    if "T" not in value.upper():
        raise ValueError("is not a time such as 2026-11-30T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_date)]
"""A time with time zone; a bare number, which pydantic would read as seconds since 1970, is refused."""
PREFIX = "/api/v1"
router = APIRouter(responses=responses(400, 429))


def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


TheServer = Annotated[Server, Depends(_server)]
Reader = Annotated[User, Depends(needs("read"))]
Writer = Annotated[User, Depends(needs("write"))]
Admin = Annotated[User, Depends(needs("admin"))]
STUDY_ID = "^[0-9a-f]{20}$"
StudyId = Annotated[str, Path(alias="id", description="The study's id.", pattern=STUDY_ID)]
Page = Annotated[int, Query(ge=1, le=1000, description="Maximum number of entries.")]
Offset = Annotated[int, Query(ge=0, le=2**31, description="Number of entries to skip.")]
PROTECTED, CHANGING = responses(401, 403, 422), responses(401, 403, 404, 422)


def _existing(server: TheServer, study: StudyId) -> Entry:
    entry = history.find(server.database, study)
    if entry is None:
        raise HTTPException(404, "there is no such study")
    return entry


TheStudy = Annotated[Entry, Depends(_existing)]
"""Must follow the user in an operation's parameters, so that nobody without a token learns which studies exist."""


@router.post(
    "/studies", status_code=202, openapi_extra=BODY, responses=responses(401, 403, 408, 413, 415, 422, 507)
)
async def send_study(
    request: Request,
    user: Writer,
    bundle: Annotated[
        str | None, Query(description="The bundle; by default the first of `/bundles`.")
    ] = None,
    anonymise: Annotated[bool, Query(description="De-identify the DICOM results.")] = False,
) -> Accepted:
    """Send the files of one study. When this request is answered, they are stored durably."""
    server = _server(request)
    wanted = server.wanted(bundle, anonymise)
    if wanted is None:
        raise HTTPException(422, "there is no such bundle; see `/api/v1/bundles`")
    try:
        await asyncio.wait_for(server.uploads.acquire(), WAIT)
    except TimeoutError:
        await drain(request)
        wait = {"Retry-After": str(1 + secrets.randbelow(5))}
        raise HTTPException(429, "too many uploads at once; wait", wait) from None
    try:
        upload = await run_in_threadpool(Upload, server.data, server.config.upload.limits)
        try:
            async with asyncio.timeout(upload.limits.seconds):
                await receive(request, upload)
            study, new = await run_in_threadpool(accept, server.database, upload, wanted)
        finally:
            await run_in_threadpool(upload.__exit__)
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, "the upload took too long; send less at once") from None
    except (RefusedError, HTTPException):
        await drain(request)
        raise
    finally:
        server.uploads.release()
    await run_in_threadpool(record, server.database, user.name, "send", study)
    return Accepted(id=study, known=not new)


@router.get("/studies", responses=PROTECTED)
def list_studies(
    server: TheServer,
    user: Reader,
    state: State | None = None,
    verdict: Verdict | None = None,
    since: Annotated[Moment | None, Query(description="Received at or after this time.")] = None,
    until: Annotated[Moment | None, Query(description="Received before this time.")] = None,
    limit: Page = 50,
    offset: Offset = 0,
) -> StudyList:
    """List studies, the latest first."""
    entries, total = history.listed(
        server.database,
        state=state,
        verdict=verdict,
        since=None if since is None else since.timestamp(),
        until=None if until is None else until.timestamp(),
        limit=limit,
        offset=offset,
    )
    return StudyList(studies=[StudySummary(**StudySummary.values(entry)) for entry in entries], total=total)


@router.post("/search", responses=PROTECTED)
def search_studies(server: TheServer, user: Reader, body: Search) -> StudyList:
    """Search studies, the latest first. The search words are not part of the URL."""
    entries, total = history.listed(server.database, **body.model_dump())
    return StudyList(studies=[StudySummary(**StudySummary.values(entry)) for entry in entries], total=total)


@router.get("/studies/{id}", responses=CHANGING)
def get_study(server: TheServer, user: Reader, entry: TheStudy) -> StudyDetails:
    """Get one study with its findings."""
    study = entry.study
    record(server.database, user.name, "view", study.id)
    files = history.files_of(server.database, study.id)
    return StudyDetails(
        **StudySummary.values(entry),
        findings=study.findings,
        results=history.results(server.data, study.id) if study.state == "done" else [],
        viewable=study.state == "done" and (server.data / STUDIES / study.id / VIEW / INDEX).is_file(),
        sent=[FileSent(stored=one.stored, name=one.name, bytes=one.size) for one in files],
    )


FILE = {"description": "The file.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    "/studies/{id}/results/{name:path}", response_class=FileResponse, responses={200: FILE, **CHANGING}
)
def get_result(
    server: TheServer,
    user: Reader,
    entry: TheStudy,
    name: Annotated[str, Path(description="One of the study's `results`.")],
) -> FileResponse:
    """Get one file of the results."""
    study = entry.study.id
    if name not in history.results(server.data, study):
        raise HTTPException(404, "there is no such result; the study's `results` lists them")
    record(server.database, user.name, "export", study)
    headers = {"Content-Security-Policy": REPORT_POLICY} if name.endswith(".html") else {}
    path = server.data / STUDIES / study / RESULTS / name
    return FileResponse(path, media_type=_media_type(name), headers=headers)


@router.get("/studies/{id}/view/{name}", response_class=FileResponse, responses={200: FILE, **CHANGING})
def get_view(
    server: TheServer,
    user: Reader,
    entry: TheStudy,
    name: Annotated[
        str, Path(description="`view.json`, or a file that it describes.", pattern=r"^[\w.-]{1,60}$")
    ],
) -> FileResponse:
    """Get the data that the viewer shows for a study; `slices` can be read in parts with the header `Range`."""
    path = server.data / STUDIES / entry.study.id / VIEW / name
    if entry.study.state != "done" or not path.is_file():
        raise HTTPException(404, "there is no such file in the view; see `view.json`")
    record(server.database, user.name, "view", entry.study.id)
    headers = {"Content-Encoding": "gzip"} if name in PACKED else {}
    return FileResponse(path, media_type=_media_type(name), headers=headers)


@router.get("/followup", responses={**CHANGING, **responses(409)})
def compare_studies(
    server: TheServer,
    user: Reader,
    before: Annotated[str, Query(description="The id of the earlier study.", pattern=STUDY_ID)],
    after: Annotated[str, Query(description="The id of the later study.", pattern=STUDY_ID)],
    any_patient: Annotated[
        bool, Query(description="Compare the studies even if they are of different patients.")
    ] = False,
) -> dict[str, Any]:
    """Compare two volumes of one patient: lungs and lesions before and after, by region and lesion type."""
    one, other = (_existing(server, study).study for study in (before, after))
    if one.findings is None or other.findings is None:
        raise HTTPException(409, "one of the studies has not been answered")
    warnings: tuple[str, ...] = ()
    if not one.patient_id or not other.patient_id:
        warnings = ("The files do not say whether both studies are of one patient.",)
    elif one.patient_id != other.patient_id:
        warnings = ("The two studies are of different patients.",)
        if not any_patient:
            raise HTTPException(
                409, "the studies are of different patients; `any_patient` compares them anyway"
            )
    try:
        compared = follow_up(one.findings, other.findings, warnings)
    except GroundglassError as error:
        raise HTTPException(409, str(error)) from None
    for study in (before, after):
        record(server.database, user.name, "view", study)
    return compared.to_dict()


@router.get("/studies/{id}/events", response_class=EventSourceResponse, responses=CHANGING)
async def follow_study(server: TheServer, user: Reader, entry: TheStudy) -> AsyncIterator[ServerSentEvent]:
    """Follow a study: sends an event whenever its state or progress changes, until it is done or has failed."""
    now: Entry | None = entry
    before = None
    while now is not None:
        event = StudyEvent(
            state=now.study.state,
            progress=Progress(done=now.progress, total=now.total),
            verdict=now.study.verdict,
            problem=now.study.problem,
        )
        if event != before:
            yield ServerSentEvent(data=event, event="study")
        if event.state in ("done", "failed"):
            return
        before = event
        await asyncio.sleep(LOOK)
        now = await run_in_threadpool(history.find, server.database, entry.study.id)


@router.post("/studies/{id}/retry", status_code=202, responses={**CHANGING, **responses(409)})
def retry_study(server: TheServer, user: Writer, entry: TheStudy) -> Accepted:
    """Queue a failed study again."""
    if not queue.retry(server.database, entry.study.id):
        raise HTTPException(409, "the study has not failed")
    record(server.database, user.name, "retry", entry.study.id)
    return Accepted(id=entry.study.id, known=True)


@router.delete("/studies/{id}", status_code=204, responses={**CHANGING, **responses(500)})
def delete_study(server: TheServer, user: Writer, entry: TheStudy) -> Response:
    """Delete a study with its files and results."""
    gone = history.forget(server.database, server.data, entry.study.id)
    record(server.database, user.name, "delete", entry.study.id)
    if not gone:
        raise HTTPException(500, "some files could not be removed; the server tries again within an hour")
    return Response(status_code=204)


@router.get("/bundles", responses=responses(401, 403))
def list_bundles(server: TheServer, user: Reader) -> list[BundleInfo]:
    """List the available detectors."""
    return [bundle.info for bundle in server.bundles.values()]


@router.get("/health")
async def get_health(request: Request) -> Health:
    """Get the server's health; no token is needed."""
    server = _server(request)
    workers, room = server.workers.ready, server.room
    return Health(
        status="ok" if workers and room else "degraded", version=__version__, workers=workers, room=room
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **responses(401, 403),
    },
)
def get_metrics(server: TheServer, user: Reader) -> Response:
    """Get metrics for Prometheus."""
    return Response(generate_latest(server.registry), media_type=CONTENT_TYPE_LATEST)


@router.post("/session", status_code=201, responses=responses(401, 422))
def sign_in(request: Request, response: Response, body: SignIn) -> Session:
    """Sign in with a token; the response sets a cookie."""
    access: Access = request.app.state.access
    return _session(access.sign_in(request, response, body.token))


@router.get("/session", responses=responses(401, 403))
def get_session(user: Reader) -> Session:
    """Get the signed-in user."""
    return _session(user)


@router.delete("/session", status_code=204, responses=responses(401, 403))
def sign_out(request: Request, user: Reader) -> Response:
    """Sign out."""
    access: Access = request.app.state.access
    response = Response(status_code=204)
    access.sign_out(request, response)
    return response


@router.get("/log", responses=PROTECTED)
def get_log(server: TheServer, user: Admin, limit: Page = 100, offset: Offset = 0) -> Log:
    """List who signed in, and who viewed, exported, sent or deleted which study, the latest first."""
    lines, total = events(server.database, limit, offset)
    return Log(lines=[LogLine.of(line) for line in lines], total=total)


def _session(user: User) -> Session:
    return Session(user=user.name, scopes=sorted(user.scopes), csrf=user.csrf)


def _media_type(name: str) -> str:
    if name.endswith(".dcm"):
        return "application/dicom"
    if name.endswith(".gz"):
        return "application/gzip"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
