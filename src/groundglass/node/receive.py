"""The receiver: C-ECHO, and C-STORE of CT in every supported transfer syntax.

Handlers write instances as received, without decoding them, and answer success once they are durable.
"""

import io
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.filereader import read_dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from groundglass import __version__
from groundglass.errors import GroundglassError
from groundglass.files import reason_of
from groundglass.node.config import MB, Caller, DicomConfig, TlsConfig
from groundglass.node.inbox import META, Inbox
from groundglass.scan.dicom.headers import CT_CLASSES
from groundglass.scan.dicom.pixels import syntaxes
from groundglass.store.upload import RefusedError

log = logging.getLogger(__name__)

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
NOT_RECOGNISED = (0x01, 0x01, 0x03)
"""Rejected permanently by the user: calling AE title not recognised (PS3.8 9.3.4)."""
PDU = 1 << 17
RESOLVED = 60.0
"""Seconds for which the addresses of a host name are cached."""
IMPLEMENTATION = UID("2.25.197513047262904935612718834862352117593")
VERSION = f"GROUNDGLASS_{__version__.replace('.', '')}"[:16]


def silence() -> None:
    """Disable pynetdicom's logging, because its messages contain UIDs and patients' names."""
    _config.LOG_HANDLER_LEVEL = "none"
    for name in ("pynetdicom", "dicomweb_client"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False


def entity(config: DicomConfig) -> AE:
    """An application entity with this node's name and timeouts."""
    silence()
    entity = AE(config.ae_title)
    entity.implementation_class_uid, entity.implementation_version_name = IMPLEMENTATION, VERSION
    entity.maximum_pdu_size = PDU
    entity.acse_timeout = entity.connection_timeout = min(30.0, config.idle_seconds)
    entity.dimse_timeout = entity.network_timeout = config.idle_seconds
    return entity


class _Context(ssl.SSLContext):
    """A context whose server does the handshake in the association's thread, so that no caller can block
    another."""

    def wrap_socket(  # type: ignore[override]
        self, sock: Any, server_side: bool = False, **options: Any
    ) -> ssl.SSLSocket:
        wait = not server_side
        return super().wrap_socket(sock, server_side, do_handshake_on_connect=wait, **options)


def context(tls: TlsConfig, *, server: bool) -> ssl.SSLContext:
    """The TLS context, for listening or for connecting; both sides present a certificate.

    Raises
    ------
    GroundglassError
        If a file cannot be read.
    """
    made = _Context(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    try:
        made.load_verify_locations(tls.authority)
        made.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # includes ssl.SSLError
        raise GroundglassError(f"dicom.tls: the files cannot be used ({reason_of(error)})") from error
    made.verify_mode = ssl.CERT_REQUIRED
    return made


@dataclass(frozen=True)
class Instance:
    """An instance as received; its file does not depend on anything else, such as the sender."""

    sop_class: str
    sop_instance: str
    syntax: str
    dataset: bytes

    @classmethod
    def of_request(cls, event: Any) -> "Instance":
        """The instance of a C-STORE request."""
        request, syntax = event.request, event.context.transfer_syntax
        content = request.DataSet.getvalue()
        return cls(request.AffectedSOPClassUID, request.AffectedSOPInstanceUID, syntax, content)

    @classmethod
    def of_file(cls, content: bytes) -> "Instance | None":
        """The instance of a file (PS3.10); None if it is not one."""
        end = 144 + int.from_bytes(content[140:144], "little")
        if content[128:138] != b"DICM\x02\0\0\0UL" or end >= len(content):
            return None
        try:
            meta = read_dataset(io.BytesIO(content[132:end]), is_implicit_VR=False, is_little_endian=True)
            sop_class, sop_instance = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
            return cls(str(sop_class), str(sop_instance), str(meta.TransferSyntaxUID), content[end:])
        except Exception:  # pydicom raises almost any exception on damaged bytes
            return None

    @property
    def pieces(self) -> tuple[bytes, bytes]:
        """The content of its file."""
        meta = create_file_meta(
            sop_class_uid=UID(self.sop_class),
            sop_instance_uid=UID(self.sop_instance),
            transfer_syntax=UID(self.syntax),
            implementation_uid=IMPLEMENTATION,
            implementation_version=VERSION,
        )
        return META + encode_file_meta(meta), self.dataset


def keep(inbox: Inbox, event: Any) -> int:
    """Handle a C-STORE request: store its instance, and return the status."""
    try:
        inbox.add(Instance.of_request(event).pieces)
    except RefusedError:
        log.warning("an instance was refused because the disk is full")
        return OUT_OF_RESOURCES
    return SUCCESS


class Receiver:
    """Accepts associations.

    Parameters
    ----------
    config
        The node's configuration.
    root
        The folder ``incoming``.
    room
        Raises RefusedError if the disk is nearly full.
    """

    def __init__(self, config: DicomConfig, root: Path, room: Callable[[], None]) -> None:
        self._config, self._root, self._room = config, root, room
        self._resolved: dict[str, tuple[float, list[str]]] = {}
        named = (peer for peer in config.peers if peer.ae_title)
        self._callers = [
            *config.callers,
            *(Caller(ae_title=str(peer.ae_title), hosts=(str(peer.host),)) for peer in named),
        ]
        self._entity = entity(config)
        self._entity.maximum_associations = config.associations
        self._entity.require_called_aet = True
        self._entity.supported_contexts = []
        self._entity.add_supported_context(Verification)
        for sop_class in CT_CLASSES:
            self._entity.add_supported_context(sop_class, syntaxes())
        self._server: Any = None

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.socket.getsockname()[1])

    def start(self) -> None:
        """Start listening; raises GroundglassError if this is impossible."""
        config = self._config
        secure = None if config.tls is None else context(config.tls, server=True)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_PDU_RECV, self._received),
            (evt.EVT_DIMSE_RECV, self._complete),
            (evt.EVT_C_STORE, self._store),
        ]
        try:
            self._server = self._entity.start_server(
                (config.host, config.port), block=False, ssl_context=secure, evt_handlers=handlers
            )
        except OSError as error:
            raise GroundglassError(
                f"{config.host}, port {config.port}: cannot be bound ({reason_of(error)}); change dicom.port"
            ) from error

    def stop(self) -> None:
        """End all associations, and stop listening."""
        self._entity.shutdown()

    def open(self) -> set[str]:
        """The names of the folders of open associations."""
        found = (getattr(one, "inbox", None) for one in self._server.active_associations)
        return {inbox.folder.name for inbox in found if inbox is not None}

    def _opened(self, event: Any) -> None:
        connection = event.assoc.dul.socket.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self._config.idle_seconds)

    def _requested(self, event: Any) -> None:
        """Reject callers that are not allowed."""
        assoc = event.assoc
        title, address = assoc.requestor.primitive.calling_ae_title.strip(), assoc.requestor.address
        for caller in self._callers:
            if caller.ae_title.strip() == title and self._at(str(address), caller.hosts):
                return
        log.warning("an association was rejected: its AE title is not allowed from its address")
        assoc.acse.send_reject(*NOT_RECOGNISED)
        assoc.kill()

    def _at(self, address: str, hosts: tuple[str, ...]) -> bool:
        if not hosts:
            return True
        for host in hosts:
            for one in self._addresses(host):
                with suppress(ValueError):
                    if ipaddress.ip_address(address) in ipaddress.ip_network(one, strict=False):
                        return True
        return False

    def _addresses(self, host: str) -> list[str]:
        with suppress(ValueError):
            return [str(ipaddress.ip_network(host, strict=False))]
        at, found = self._resolved.get(host, (-RESOLVED, []))
        if time.monotonic() - at >= RESOLVED:
            with suppress(OSError):
                found = [str(one[4][0]) for one in socket.getaddrinfo(host, None)]
            self._resolved[host] = (time.monotonic(), found)
        return found

    def _received(self, event: Any) -> None:
        """Count an instance's bytes as they arrive, because it is kept in memory until it is complete."""
        if isinstance(event.pdu, P_DATA_TF):
            assoc = event.assoc
            assoc.coming = getattr(assoc, "coming", 0) + event.pdu.pdu_length
            if assoc.coming > self._config.object_mb * MB and not assoc.is_aborted:
                log.warning("an association was aborted: an instance is larger than dicom.object_mb")
                assoc.coming = 0
                threading.Thread(target=assoc.abort, daemon=True).start()

    def _complete(self, event: Any) -> None:
        event.assoc.coming = 0

    def _store(self, event: Any) -> int:
        assoc = event.assoc  # its requests are handled one after the other
        if not hasattr(assoc, "inbox"):
            assoc.inbox = Inbox(self._root, assoc.requestor.ae_title.strip(), self._room)
        return keep(assoc.inbox, event)
