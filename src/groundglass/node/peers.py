"""Requests to other systems by DIMSE or DICOMweb: echo, find, fetch images, and store results."""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from groundglass.errors import GroundglassError
from groundglass.node.config import DicomConfig, Peer
from groundglass.node.inbox import Inbox
from groundglass.node.receive import Instance, context, entity, keep, silence
from groundglass.scan.dicom.headers import CT_CLASSES
from groundglass.scan.dicom.pixels import syntaxes

PENDING, DUPLICATE = (0xFF00, 0xFF01), 0x0111
TIMEOUT = (10, 60)
"""Seconds to connect to a DICOMweb service, and to wait for its response."""
STUDY_KEYS = (
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
SERIES_KEYS = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
)
Begun = Callable[[int], None]
"""Called before each object is sent, with its number, counted from 1."""


class PeerError(GroundglassError):
    """Another system cannot be reached or does not answer, perhaps temporarily.

    Its text names the system as in the configuration, and quotes nothing from the system's response.
    """


class RefusesError(PeerError):
    """Another system refused an object, and will probably refuse it again."""


class Client(Protocol):
    """The interface of a client for another system."""

    def echo(self) -> None:
        """Check that the system answers; raises PeerError if not."""

    def find(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        """Search studies (STUDY) or a study's series (SERIES); empty values are returned, others must match."""

    def fetch(self, study: str, series: str | None, inbox: Inbox) -> int:
        """Fetch CT in its stored syntax; returns the number of instances, 0 if they arrive in another way."""

    def store(self, objects: Sequence[Dataset], begun: Begun = lambda count: None) -> None:
        """Store objects; returns once all have been accepted or were already there."""


def client_of(config: DicomConfig, peer: Peer) -> Client:
    """The client for a peer."""
    return Dimse(config, peer) if peer.url is None else Web(peer)


class Dimse:
    """A system that speaks DIMSE.

    Parameters
    ----------
    config
        The node's configuration: its AE title, certificate and timeouts.
    peer
        The system.
    """

    def __init__(self, config: DicomConfig, peer: Peer) -> None:
        self._config, self._peer = config, peer
        self._tls = None
        if peer.tls and config.tls is not None:
            self._tls = (context(config.tls, server=False), str(peer.host))

    @contextmanager
    def _associated(self, contexts: list[PresentationContext], **options: Any) -> Iterator[Association]:
        peer = self._peer
        assoc = entity(self._config).associate(
            str(peer.host),
            peer.port,
            contexts,
            ae_title=str(peer.ae_title),
            max_pdu=0,
            tls_args=self._tls,
            **options,
        )
        if not assoc.is_established:
            why = "rejects the association" if assoc.is_rejected else "cannot be reached"
            raise PeerError(f"{peer.name}: {why}; check its address, AE titles and permissions")
        try:
            yield assoc
        finally:
            if assoc.is_established:
                assoc.release()
            else:
                assoc.abort()

    def _status(self, answer: Dataset) -> int:
        if "Status" not in answer:
            raise PeerError(f"{self._peer.name}: does not answer, or ended the association")
        return int(answer.Status)

    def echo(self) -> None:
        """Check that the system answers; raises PeerError if not."""
        with self._associated([build_context(Verification)]) as assoc:
            if self._status(assoc.send_c_echo()):
                raise PeerError(f"{self._peer.name}: refuses the echo")

    def _answers(self, assoc: Association, answers: Iterator[tuple[Dataset, Any]]) -> list[Dataset]:
        found = []
        for answer, dataset in answers:
            status = self._status(answer)
            if status in PENDING:
                found.append(dataset or answer)
            elif status and status != 0xB000:
                raise PeerError(f"{self._peer.name}: refuses the request (status 0x{status:04X})")
            else:
                found.append(answer)
        return found

    def find(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        """Search studies (STUDY) or a study's series (SERIES); empty values are returned, others must match."""
        model = StudyRootQueryRetrieveInformationModelFind
        with self._associated([build_context(model)]) as assoc:
            return self._answers(assoc, assoc.send_c_find(_identifier(level, keys), model))[:-1]

    def fetch(self, study: str, series: str | None, inbox: Inbox) -> int:
        """Fetch CT in its stored syntax; returns the number of instances, 0 if they arrive by C-MOVE."""
        keys = {"StudyInstanceUID": study, **({"SeriesInstanceUID": series} if series else {})}
        identifier = _identifier("SERIES" if series else "STUDY", keys)
        if self._peer.by == "move":
            model = StudyRootQueryRetrieveInformationModelMove
            with self._associated([build_context(model)]) as assoc:
                self._answers(assoc, assoc.send_c_move(identifier, self._config.ae_title, model))
            return 0
        model, came = StudyRootQueryRetrieveInformationModelGet, 0

        def store(event: Any) -> int:
            nonlocal came
            status = keep(inbox, event)
            came += not status
            return status

        contexts = [build_context(model)]
        contexts += [build_context(one, syntax) for one in CT_CLASSES for syntax in syntaxes()]
        roles = [build_role(one, scp_role=True) for one in CT_CLASSES]
        with self._associated(contexts, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, store)]) as assoc:
            self._answers(assoc, assoc.send_c_get(identifier, model))
        return came

    def store(self, objects: Sequence[Dataset], begun: Begun = lambda count: None) -> None:
        """Store objects; returns once all have been accepted or were already there."""
        kinds = dict.fromkeys((one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in objects)
        contexts = [build_context(*kind) for kind in kinds]
        contexts += [build_context(sop_class, ImplicitVRLittleEndian) for sop_class, _ in kinds]
        with self._associated(contexts[:128]) as assoc:
            for number, one in enumerate(objects, start=1):
                begun(number)
                resumed(assoc)
                try:
                    status = self._status(assoc.send_c_store(one))
                except ValueError as error:  # no accepted context fits
                    raise RefusesError(f"{self._peer.name}: does not accept objects of this kind") from error
                if status and status != DUPLICATE and status >> 12 != 0xB:
                    kind = RefusesError if status >> 8 == 0xA9 or status >> 12 == 0xC else PeerError
                    raise kind(f"{self._peer.name}: refuses an object (status 0x{status:04X})")


def resumed(assoc: Association) -> None:
    """Wait until an association's thread runs again after a request.

    On a busy machine, pynetdicom 3.0.4 can lose the answer to the next request, because the thread is about to
    resume but still counts as paused, and takes the answer. Without this wait that happened twice in 350
    associations; with it, never in 1000.
    """
    while getattr(assoc, "_is_paused", False) and assoc.is_established:
        time.sleep(0.001)


class Web:
    """A system with a DICOMweb service."""

    def __init__(self, peer: Peer) -> None:
        silence()
        session = requests.Session()
        try:
            if peer.user is not None and peer.password_file is not None:
                session.auth = (peer.user, peer.password_file.read_text("utf-8").strip())
            if peer.token_file is not None:
                session.headers["Authorization"] = f"Bearer {peer.token_file.read_text('utf-8').strip()}"
        except OSError as error:
            raise GroundglassError(f"{peer.name}: its password or token cannot be read") from error
        self._peer = peer
        self._client = DICOMwebClient(str(peer.url), session, timeout=TIMEOUT)
        self._client.set_http_retry_params(retry=False)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except requests.HTTPError as error:
            status = 0 if error.response is None else error.response.status_code
            kind = RefusesError if status in (400, 409, 415) else PeerError
            raise kind(f"{self._peer.name}: refuses the request (HTTP {status})") from error
        except (requests.RequestException, OSError) as error:
            raise PeerError(f"{self._peer.name}: cannot be reached ({type(error).__name__})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PeerError(f"{self._peer.name}: does not answer as a DICOMweb service") from error

    def echo(self) -> None:
        """Check that the system answers; raises PeerError if not."""
        with self._asked():
            self._client.search_for_studies(limit=1)

    def find(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        """Search studies (STUDY) or a study's series (SERIES); empty values are returned, others must match."""
        wanted = {key: value for key, value in keys.items() if value}
        study = wanted.pop("StudyInstanceUID", None)
        fields = [key for key, value in keys.items() if not value]
        with self._asked():
            if level == "SERIES":
                found = self._client.search_for_series(study, fields=fields, search_filters=wanted)
            else:
                filters = {**wanted, **({"StudyInstanceUID": study} if study else {})}
                found = self._client.search_for_studies(fields=fields, search_filters=filters)
            return [Dataset.from_json(one) for one in found]

    def fetch(self, study: str, series: str | None, inbox: Inbox) -> int:
        """Fetch CT in its stored syntax; returns the number of instances."""
        keys = {"StudyInstanceUID": study, "Modality": "CT"}
        chosen = [series] if series else [str(one.SeriesInstanceUID) for one in self.find("SERIES", keys)]
        came = 0
        for one in chosen:
            with self._asked():
                for dataset in self._client.iter_series(
                    study, one, media_types=(("application/dicom", "*"),)
                ):
                    content = io.BytesIO()
                    dataset.save_as(content)
                    if (instance := Instance.of_file(content.getvalue())) is not None:
                        inbox.add(instance.pieces)
                        came += 1
        return came

    def store(self, objects: Sequence[Dataset], begun: Begun = lambda count: None) -> None:
        """Store objects; returns once all have been accepted or were already there."""
        for number, one in enumerate(objects, start=1):
            begun(number)
            try:
                with self._asked():
                    answer = self._client.store_instances([one])
                refused = "FailedSOPSequence" in answer and bool(answer.FailedSOPSequence)
            except RefusesError:
                refused = True
            if refused and not self._has(one):
                raise RefusesError(f"{self._peer.name}: refuses an object")

    def _has(self, one: Dataset) -> bool:
        with self._asked():
            filters = {"SOPInstanceUID": one.SOPInstanceUID}
            return bool(self._client.search_for_instances(one.StudyInstanceUID, search_filters=filters))


def _identifier(level: str, keys: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier
