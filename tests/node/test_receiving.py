"""The receiver: instances that it accepts and stores unchanged, and those that it refuses."""

import logging
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from noding import CANARIES, Noded, Sending, config, wait
from pydicom import uid as uids
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, build_context

from groundglass.node import inbox
from groundglass.node.peers import PeerError, client_of
from groundglass.phantom import make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.dicom_syntax import SYNTAXES
from groundglass.scan.dicom.pixels import supported
from groundglass.store.history import files_of
from groundglass.store.upload import FILES, STUDIES

Start = Callable[..., Noded]


def held(noded: Noded) -> list[Path]:
    """The files of all studies."""
    return sorted((noded.data / STUDIES).glob(f"*/{FILES}/*"))


def body(path: Path) -> bytes:
    """A file's dataset without its meta information."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


@pytest.mark.parametrize("form", ["classic", "enhanced", "legacy-enhanced"])
def test_each_kind_of_ct_is_stored_as_it_was_sent(noded: Start, tmp_path: Path, form: str) -> None:
    noded = noded()
    sent = write_phantom_dicom(make_phantom(3, shape=(6, 48, 48)), tmp_path / "sent", form=form)
    assert set(noded.send(sent)) == {0}
    noded.settled()
    assert sorted(map(body, held(noded))) == sorted(map(body, sent))


def test_each_transfer_syntax_is_stored_as_it_was_sent(noded: Start, tmp_path: Path) -> None:
    noded = noded()
    sent, phantom = {}, make_phantom(3, shape=(len(SYNTAXES), 48, 48))
    for number, (name, syntax) in enumerate(SYNTAXES.items()):
        assert supported(syntax.uid)
        path = write_phantom_dicom(phantom, tmp_path / name, syntax=name)[number]
        assert noded.send([path]) == [0], name
        sent[syntax.uid] = body(path)
    noded.settled()
    stored = {pydicom.dcmread(path).file_meta.TransferSyntaxUID: body(path) for path in held(noded)}
    assert set(stored) == set(sent)
    del stored[DeflatedExplicitVRLittleEndian]  # which the sender deflates again
    assert {syntax: sent[syntax] for syntax in stored} == stored


def test_an_echo_is_answered_and_a_wrong_caller_is_rejected(
    noded: Start, caplog: pytest.LogCaptureFixture
) -> None:
    noded = noded(
        callers=[
            {"ae_title": "SCANNER", "hosts": ["127.0.0.0/30"]},
            {"ae_title": "FAR", "hosts": ["10.0.0.9"]},
        ]
    )
    for title, called, welcome in [
        ("SCANNER", "GROUNDGLASS", True),
        ("OTHER", "GROUNDGLASS", False),
        ("FAR", "GROUNDGLASS", False),
        ("SCANNER", "SOMEBODY", False),
    ]:
        with Sending(noded.node.receiver.port, title, called) as sending:
            assert sending.assoc.is_established is welcome
            assert sending.assoc.is_rejected is not welcome
            if welcome:
                assert sending.assoc.send_c_echo().Status == 0


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((uids.ExplicitVRLittleEndian, uids.JPEGLosslessSV1), uids.JPEGLosslessSV1),  # it may not decompress
        ((uids.JPEG2000, uids.ExplicitVRLittleEndian), uids.ExplicitVRLittleEndian),  # nor compress with loss
    ],
)
def test_of_several_syntaxes_the_one_that_loses_nothing_is_chosen(
    noded: Start, offered: tuple[str, ...], chosen: str
) -> None:
    contexts = [build_context(uids.CTImageStorage, list(offered))]
    port = noded().node.receiver.port
    assoc = AE("SCANNER").associate("127.0.0.1", port, contexts, ae_title="GROUNDGLASS")
    assert [one.transfer_syntax for one in assoc.accepted_contexts] == [[chosen]]
    assoc.release()


def test_only_ct_is_taken(noded: Start) -> None:
    noded = noded()
    contexts = [build_context("1.2.840.10008.5.1.4.1.1.88.34"), build_context("1.2.840.10008.5.1.4.1.1.7")]
    assoc = AE("SCANNER").associate("127.0.0.1", noded.node.receiver.port, contexts, ae_title="GROUNDGLASS")
    assert not assoc.accepted_contexts
    assoc.abort()


def test_a_full_disk_is_answered_out_of_resources_and_leaves_nothing(
    noded: Start, chest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    noded = noded()
    images = chest("full")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(inbox.os, "fsync", full)
        assert noded.send(images[:1]) == [0xA700]
    assert not [path for path in (noded.data / "node").rglob("*") if path.is_file()]
    assert noded.send(images) == [0] * len(images)
    noded.settled()
    assert len(held(noded)) == len(images)


def test_an_instance_over_the_limit_ends_the_association(noded: Start, chest: Any) -> None:
    noded = noded(object_mb=0.01)
    images = chest("large", phantom=None)
    images[0].PixelData = bytes(2 << 20)
    with Sending(noded.node.receiver.port) as sending:
        assert "Status" not in sending.assoc.send_c_store(images[0])
    assert noded.arrivals() == []


def test_silent_and_stuck_senders_are_disconnected(noded: Start) -> None:
    noded = noded(idle_seconds=0.3)
    port = noded.node.receiver.port
    for first in (b"", b"\x01\0", b"\x01\0" + struct.pack(">L", 1000) + b"x" * 10):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(first)
            connection.settimeout(20)
            while connection.recv(100):
                pass
    with Sending(port) as sending:
        wait(lambda: not sending.assoc.is_established, 20)


def test_no_more_associations_than_allowed(noded: Start) -> None:
    noded = noded(associations=2)
    port = noded.node.receiver.port
    with Sending(port) as one, Sending(port) as two, Sending(port) as three:
        assert [one.assoc.is_established, two.assoc.is_established] == [True, True]
        assert three.assoc.is_rejected


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``NAME.pem`` and ``NAME.key`` of an authority, of two systems that it has signed, and of a stranger."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, signed in [("authority", False), ("node", True), ("scanner", True), ("stranger", False)]:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        command += ["-CA", "authority.pem", "-CAkey", "authority.key"] if signed else []
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def test_tls_is_spoken_with_whom_both_sides_trust_and_with_nobody_else(
    noded: Start, chest: Any, certificates: Path
) -> None:
    def tls(name: str, authority: str = "authority") -> dict[str, Path]:
        files = {"certificate": f"{name}.pem", "key": f"{name}.key", "authority": f"{authority}.pem"}
        return {key: certificates / file for key, file in files.items()}

    noded = noded(tls=tls("node"))

    def client(host: str = "127.0.0.1", **section: Any) -> Any:
        address = {"name": "node", "ae_title": "GROUNDGLASS", "host": host, "port": noded.node.receiver.port}
        peer = {**address, "tls": bool(section)}
        settings = config(ae_title="SCANNER", idle_seconds=5, peers=[peer], **section)
        return client_of(settings, settings.peers[0])

    trusted = client(tls=tls("scanner"))
    trusted.echo()
    trusted.store(chest("tls"))
    for wrong in [
        client(),  # without TLS
        client(tls=tls("stranger")),  # whom the node does not trust
        client(tls=tls("scanner", authority="stranger")),  # who does not trust the node
        client("localhost", tls=tls("scanner")),  # who asks for another than the certificate names
    ]:
        with pytest.raises(PeerError):
            wrong.echo()
        with pytest.raises(PeerError):
            wrong.store(chest("wrong", 2))
    trusted.echo()
    noded.settled()
    assert [entry.study.files for entry in noded.studies()] == [6]


def test_nothing_about_the_patient_is_logged(
    noded: Start, chest: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    noded = noded()
    images = chest("canary")
    images[1].SliceThickness = None
    noded.send(images)
    with Sending(noded.node.receiver.port) as sending:
        sending.send(images[0])
        sending.assoc.abort()
    noded.settled()
    said = caplog.text + "".join(capfd.readouterr())
    for value in (*CANARIES.values(), images[0].StudyInstanceUID, images[0].SOPInstanceUID):
        assert value not in said
    (entry,) = noded.studies()
    for file in files_of(noded.database, entry.study.id):
        assert images[0].SOPInstanceUID not in file.name
