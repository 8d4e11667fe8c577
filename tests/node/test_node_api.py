"""The node in the server: the API's lists, sending again, and STOW-RS."""

import io
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from fastapi.testclient import TestClient
from noding import BUNDLE, Noded, Sending, wait

from groundglass.errors import GroundglassError
from groundglass.serve.app import build
from groundglass.serve.config import ServeConfig, load_config
from groundglass.serve.run import serve
from groundglass.store import queue
from groundglass.store.access import add_token
from groundglass.store.tables import Job

BOUNDARY = "some-boundary"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    data = tmp_path_factory.mktemp("server")
    dicom = {
        "port": 0,
        "quiet_seconds": 0.4,
        "callers": [{"ae_title": "SCANNER"}],
        "peers": [{"name": "nowhere", "ae_title": "NOWHERE", "host": "127.0.0.1", "port": 1}],
        "destinations": [{"to": "nowhere"}],
    }
    settings = {"data": data, "bundles": [BUNDLE], "upload": {"free_disk_mb": 0}, "dicom": dicom}
    app = build(ServeConfig.model_validate(settings), work=False)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        token = add_token(app.state.server.database, "tests", ["read", "write"])
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def stow(client: TestClient, *parts: bytes, **headers: str) -> Any:
    lines = [
        b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (BOUNDARY.encode(), one) for one in parts
    ]
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    body = b"".join(lines) + b"--%s--\r\n" % BOUNDARY.encode()
    return client.post("/dicom-web/studies", content=body, headers={"Content-Type": kind, **headers})


def file_of(dataset: pydicom.Dataset) -> bytes:
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def seen(client: TestClient, **query: Any) -> Any:
    answer = client.get("/api/v1/dicom", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_came_is_listed_with_what_became_of_it(server: TestClient, chest: Any) -> None:
    assert seen(server)["ae_title"] == "GROUNDGLASS"
    node, database = server.app.state.server.node, server.app.state.server.database
    noded = Noded(node, database, Path(), None)
    with Sending(node.receiver.port) as sending:
        for image in chest("listed", 3):
            sending.send(image)
        wait(lambda: seen(server)["counts"]["receiving"] == 1)
    head = chest("head", 2, BodyPartExamined="HEAD")
    noded.send(head)
    wait(lambda: seen(server)["counts"]["waiting"] == seen(server)["counts"]["ignored"] == 1)
    (ignored,) = seen(server, state="ignored")["examinations"]
    assert list(ignored["left_out"].values()) == [2]

    lease = queue.claim(database, "tests")
    assert lease is not None
    assert queue.finish(database, lease, {"verdict": "covid"})
    wait(lambda: seen(server)["counts"]["failed"] == 1)  # there are no results to send
    (one,) = seen(server, state="failed")["examinations"]
    assert one["deliveries"][0]["problem"] == "there are no DICOM results of this study"
    assert (one["instances"], one["caller"], one["study"]) == (3, "SCANNER", lease.study)

    assert server.post(f"/api/v1/studies/{lease.study}/send", params={"destination": "x"}).status_code == 409
    again = server.post(f"/api/v1/studies/{lease.study}/send")
    assert (again.status_code, again.json()) == (202, {"destinations": 1})
    wait(lambda: seen(server)["counts"]["failed"] == 1)
    with database.read() as session:
        assert session.query(Job).filter(Job.destination == "nowhere").count() == 1


def test_a_study_is_fetched_from_a_peer_of_the_configuration_or_it_is_said_why_not(
    server: TestClient,
) -> None:
    assert seen(server)["peers"] == ["nowhere"]
    for peer, study, status, why in [
        ("nowhere", "1.2.3", 502, "nowhere: cannot be reached; check its address, AE titles and permissions"),
        ("NOWHERE@127.0.0.1:1", "1.2.3", 404, "there is no such peer; see `/api/v1/dicom`"),
        ("nowhere", "1.2.*", 422, "study: "),
    ]:
        answer = server.post("/api/v1/dicom/fetch", json={"peer": peer, "study": study})
        assert answer.status_code == status
        assert answer.json()["detail"].startswith(why)


def test_stow_takes_ct_and_says_what_it_does_not_take(server: TestClient, chest: Any) -> None:
    images = chest("stow", 2)
    other = chest("stow other", 1)[0]
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    answer = stow(server, *map(file_of, images))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+json")
    assert len(answer.json()["00081199"]["Value"]) == 2
    answer = stow(server, file_of(other), b"noise", file_of(images[0]))
    assert answer.status_code == 202
    reasons = [one["00081197"]["Value"] for one in answer.json()["00081198"]["Value"]]
    assert reasons == [[0x0122], [0xC000]]
    assert stow(server, b"noise").status_code == 409
    assert stow(server, b"noise", Authorization="Bearer gg_wrong").status_code == 401
    assert server.post("/dicom-web/studies", content=b"x").status_code == 415
    wait(lambda: [one for one in seen(server, state="waiting")["examinations"] if one["caller"] == "STOW-RS"])


def test_a_port_that_is_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        settings = {"data": tmp_path / "data", "port": 0, "bundles": [BUNDLE], "dicom": {"port": port}}
        with pytest.raises(GroundglassError, match=f"port {port}: cannot be bound .* change dicom.port"):
            serve(ServeConfig.model_validate(settings), print)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            "{peers: [{name: a, host: h}]}",
            "dicom.peers.0: Value error, give either ae_title and host, or url",
        ),
        ("{destinations: [{to: a}]}", "dicom: Value error, there is no peer a"),
        (
            "{choose: {description: '('}}",
            "dicom.choose.description: Value error, is not a regular expression",
        ),
        ("{portt: 1}", "dicom.portt"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: str, problem: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(f"dicom: {settings}\n")
    with pytest.raises(GroundglassError, match=r"serve\.yaml: ") as caught:
        load_config(path)
    assert problem in str(caught.value)
