"""The DICOM node in the API: received studies, deliveries, fetching, resending, and STOW-RS."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from groundglass.node.config import MB
from groundglass.node.overview import Received, State, overview
from groundglass.serve.api import CHANGING, PROTECTED, Offset, Page, Reader, TheServer, TheStudy, Writer
from groundglass.serve.models import Patient, when
from groundglass.serve.problems import responses
from groundglass.serve.uploads import pieces
from groundglass.store import queue
from groundglass.store.access import record
from groundglass.store.tables import Job
from groundglass.store.upload import RefusedError

STOW = "/dicom-web/studies"
CALLER = "STOW-RS"
JSON = "application/dicom+json"
NO_CLASS, NOT_UNDERSTOOD, NO_ROOM = 0x0122, 0xC000, 0xA700
"""Failure reasons (PS3.18 table I.2-2)."""
router = APIRouter(responses=responses(400, 429))
stow_router = APIRouter(include_in_schema=False)


class Delivery(BaseModel):
    """The delivery of a study's results to a destination; ``problem`` states why they have not arrived."""

    destination: str
    state: State
    attempts: int
    problem: str | None

    @classmethod
    def of(cls, job: Job) -> "Delivery":
        """The delivery of a job; superseded deliveries are ``ignored``."""
        states: dict[str, State] = {"done": "ignored" if job.problem else "sent", "failed": "failed"}
        return cls(
            destination=str(job.destination),
            state=states.get(job.state, "waiting"),
            attempts=job.attempts,
            problem=job.problem,
        )


class Examination(BaseModel):
    """An examination as received.

    Attributes
    ----------
    study
        The id of its latest version, once it is complete.
    caller
        The sender of the latest instance.
    instances
        The number received, and for each reason the number not answered.
    """

    state: State
    study: str | None
    patient: Patient | None
    caller: str
    last: datetime | None
    instances: int
    left_out: dict[str, int]
    problem: str | None
    deliveries: list[Delivery]

    @classmethod
    def of(cls, received: Received) -> "Examination":
        """The content for an examination in the overview."""
        arrival, study = received.arrival, received.study
        return cls(
            state=received.state,
            study=arrival.study_id,
            patient=None if study is None else Patient(name=study.patient_name, id=study.patient_id),
            caller=arrival.caller,
            last=when(arrival.last),
            instances=sum(map(len, arrival.instances.values())),
            left_out=arrival.left_out,
            problem=(study and study.problem) or arrival.problem,
            deliveries=[Delivery.of(job) for job in received.jobs],
        )


class NodeStatus(BaseModel):
    """The state of the DICOM node; without a node, ``ae_title`` is null and the lists are empty."""

    ae_title: str | None
    port: int | None
    peers: list[str]
    destinations: list[str]
    counts: dict[State, int]
    examinations: list[Examination]


class Fetch(BaseModel):
    """A study to fetch: the name of a peer, and the StudyInstanceUID."""

    peer: str
    study: str = Field(pattern=r"^[0-9.]{1,64}$")


class Fetched(BaseModel):
    """The number of instances fetched; 0 from a peer that sends them in another association (C-MOVE)."""

    instances: int


class Sending(BaseModel):
    """The number of destinations to which results are sent again."""

    destinations: int


@router.get("/dicom", responses=PROTECTED)
def get_node(
    server: TheServer, user: Reader, state: State | None = None, limit: Page = 50, offset: Offset = 0
) -> NodeStatus:
    """List the studies that the DICOM node received, the latest first, with their state."""
    config = server.config.dicom
    received, counts = overview(server.database, state, limit, offset)
    return NodeStatus(
        ae_title=config and config.ae_title,
        port=config and config.port,
        peers=[one.name for one in config.peers] if config else [],
        destinations=[one.to for one in config.destinations] if config else [],
        counts=counts,
        examinations=[Examination.of(one) for one in received],
    )


@router.post("/dicom/fetch", responses={**CHANGING, **responses(502, 507)})
def fetch_study(server: TheServer, user: Writer, body: Fetch) -> Fetched:
    """Fetch the CT of a study from a peer of the DICOM node."""
    node = server.node
    if node is None or body.peer not in [one.name for one in node.config.peers]:
        raise HTTPException(404, "there is no such peer; see `/api/v1/dicom`")
    from groundglass.node.peers import PeerError

    try:
        came = node.fetch(body.peer, body.study)
    except PeerError as error:
        raise HTTPException(502, str(error)) from None
    record(server.database, user.name, "fetch")
    return Fetched(instances=came)


@router.post("/studies/{id}/send", status_code=202, responses={**CHANGING, **responses(409)})
def send_again(
    server: TheServer,
    user: Writer,
    entry: TheStudy,
    destination: Annotated[str | None, Query(description="The destination; by default all.")] = None,
) -> Sending:
    """Send a study's results again to the destinations where they were sent or where sending failed."""
    count = queue.resend(server.database, entry.study.id, destination)
    if not count:
        raise HTTPException(409, "no results of this study were sent there, or they are still being sent")
    record(server.database, user.name, "resend", entry.study.id)
    return Sending(destinations=count)


@stow_router.post(STOW)
async def store(request: Request, server: TheServer, user: Writer) -> JSONResponse:
    """Receive instances (STOW-RS). Those that the response lists as stored are durable."""
    if server.node is None:
        raise HTTPException(404, "no DICOM node is configured")
    media, options = parse_options_header(request.headers.get("content-type", ""))
    if media != b"multipart/related" or not options.get(b"boundary"):
        raise HTTPException(415, "send multipart/related with application/dicom")
    with server.node.inbox(CALLER) as inbox:
        parts = _Parts(options[b"boundary"], inbox, server.node.config.object_mb * MB)
        async for piece in pieces(request):
            await run_in_threadpool(parts.write, piece)
    await run_in_threadpool(record, server.database, user.name, "send")
    answer = {
        "00081199": {"vr": "SQ", "Value": parts.stored},
        "00081198": {"vr": "SQ", "Value": parts.failed},
    }
    filled = {tag: value for tag, value in answer.items() if value["Value"]}
    status = 200 if not parts.failed else 202 if parts.stored else 409
    return JSONResponse(filled, status, media_type=JSON)


class _Parts:
    """The parts of a request; each is one instance and is stored as soon as it is complete."""

    def __init__(self, boundary: bytes, inbox: Any, longest: float) -> None:
        self._inbox, self._longest, self._part = inbox, longest, bytearray()
        self.stored: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        calls: Any = {"on_part_begin": self._part.clear, "on_part_data": self._data, "on_part_end": self._end}
        self._parser = MultipartParser(boundary, calls)

    def write(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise RefusedError(422, "the request is damaged", "send it again") from error

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part += data[start:end]
        if len(self._part) > self._longest:
            raise RefusedError(413, "an instance is larger than dicom.object_mb", "send a smaller one")

    def _end(self) -> None:
        from groundglass.node.receive import Instance
        from groundglass.scan.dicom.headers import CT_CLASSES

        found, reason = Instance.of_file(bytes(self._part)), NOT_UNDERSTOOD
        if found is not None:
            reason = 0 if found.sop_class in CT_CLASSES else NO_CLASS
        if found is not None and not reason:
            try:
                self._inbox.add(found.pieces)
            except RefusedError:
                reason = NO_ROOM
        item: dict[str, Any] = {}
        if found is not None:
            item["00081150"] = {"vr": "UI", "Value": [found.sop_class]}
            item["00081155"] = {"vr": "UI", "Value": [found.sop_instance]}
        if reason:
            item["00081197"] = {"vr": "US", "Value": [reason]}
        (self.failed if reason else self.stored).append(item)
