"""Tokens, scopes, expiry, sign-in with a cookie, proxies, the Host check and rates."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving import BUNDLE, Served

from groundglass.errors import GroundglassError
from groundglass.serve.app import build
from groundglass.serve.config import ServeConfig, load_config
from groundglass.serve.limits import Buckets
from groundglass.serve.server import Server
from groundglass.store.access import add_token, revoke, token_of, tokens


@contextmanager
def client(data: Path, **settings: Any) -> Iterator[tuple[TestClient, Server]]:
    values = {"data": data, "bundles": [BUNDLE], "upload": {"free_disk_mb": 0}, **settings}
    app = build(ServeConfig.model_validate(values), work=False)
    with TestClient(app, base_url="http://localhost") as client:
        yield client, app.state.server


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


STUDY = "/api/v1/studies/00000000000000000000"
REQUESTS = [
    ("GET", "/api/v1/studies", "read", 200),
    ("GET", STUDY, "read", 404),
    ("GET", f"{STUDY}/results/findings.json", "read", 404),
    ("GET", f"{STUDY}/view/view.json", "read", 404),
    ("POST", "/api/v1/search", "read", 422),  # without a body
    ("GET", "/api/v1/followup?before=00000000000000000000&after=00000000000000000001", "read", 404),
    ("GET", "/api/v1/bundles", "read", 200),
    ("GET", "/api/v1/dicom", "read", 200),
    ("GET", "/api/v1/metrics", "read", 200),
    ("GET", "/api/v1/session", "read", 200),
    ("POST", "/api/v1/studies", "write", 415),
    ("POST", f"{STUDY}/retry", "write", 404),
    ("POST", f"{STUDY}/send", "write", 404),
    ("POST", "/api/v1/dicom/fetch", "write", 422),  # without a body
    ("DELETE", STUDY, "write", 404),
    ("GET", "/api/v1/log", "admin", 200),
]


@pytest.mark.parametrize(("method", "path", "scope", "allowed"), REQUESTS)
def test_every_request_needs_its_scope(
    served: Served, method: str, path: str, scope: str, allowed: int
) -> None:
    assert served.client.request(method, path).status_code == 401
    assert served.client.request(method, path, headers=bearer("gg_wrong")).status_code == 401
    for one in ("read", "write", "admin"):
        token = add_token(served.server.database, "one scope", [one])
        answer = served.client.request(method, path, headers=bearer(token))
        assert answer.status_code == (allowed if one == scope else 403), answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


def test_every_operation_is_in_the_list_above_or_open(served: Served) -> None:
    paths = served.client.get("/api/openapi.json").json()["paths"]
    operations = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    listed = {
        (
            method,
            path.partition("?")[0]
            .replace(STUDY, "/api/v1/studies/{id}")
            .replace("findings.json", "{name}")
            .replace("view.json", "{name}"),
        )
        for method, path, _, _ in REQUESTS
    }
    assert operations - listed == {
        ("GET", "/api/v1/health"),
        ("POST", "/api/v1/session"),
        ("DELETE", "/api/v1/session"),
        ("GET", "/api/v1/studies/{id}/events"),
    }
    for path in ("/api/v1/studies/0/events", "/api/v1/session"):
        method = "DELETE" if path.endswith("session") else "GET"
        assert served.client.request(method, path).status_code == 401


def test_a_token_expires_and_can_be_revoked(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    database = served.server.database
    token = add_token(database, "for a day", ["read"], days=1)
    found = token_of(database, token)
    assert found is not None
    assert token not in str(vars(found))
    assert found.id in [one.id for one in tokens(database)]
    now = time.time()
    monkeypatch.setattr("groundglass.store.access.time.time", lambda: now + 90_000)
    assert served.client.get("/api/v1/studies", headers=bearer(token)).status_code == 401
    monkeypatch.undo()
    assert served.client.get("/api/v1/studies", headers=bearer(token)).status_code == 200
    assert revoke(database, found.id)
    assert not revoke(database, found.id)
    assert served.client.get("/api/v1/studies", headers=bearer(token)).status_code == 401


def test_an_unknown_scope_is_refused(served: Served) -> None:
    with pytest.raises(GroundglassError, match="choose from read, write, admin"):
        add_token(served.server.database, "x", ["root"])


def test_a_cookie_signs_in_and_changes_need_the_csrf_token(tmp_path: Path) -> None:
    with client(tmp_path) as (page, server):
        token = add_token(server.database, "Ward 3", ["read", "write"])
        assert page.post("/api/v1/session", json={"token": "gg_wrong"}).status_code == 401
        answer = page.post("/api/v1/session", json={"token": token})
        assert answer.status_code == 201
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert token not in cookie
        csrf = {"X-CSRF-Token": answer.json()["csrf"]}
        assert page.get("/api/v1/session").json() == answer.json()
        assert page.delete(STUDY).status_code == 403
        assert page.delete(STUDY, headers={"X-CSRF-Token": "wrong"}).status_code == 403
        assert page.delete(STUDY, headers=csrf).status_code == 404
        session = page.cookies["groundglass"]
        assert page.get("/api/v1/studies", headers=bearer(session)).status_code == 401  # it is no token
        assert page.delete("/api/v1/session", headers=csrf).status_code == 204
        page.cookies.set("groundglass", session)
        assert page.get("/api/v1/studies").status_code == 401
        page.cookies.clear()
        page.post("/api/v1/session", json={"token": token})
        assert page.get("/api/v1/studies").status_code == 200
        (listed,) = tokens(server.database)
        revoke(server.database, listed.id)
        assert page.get("/api/v1/studies").status_code == 401


def test_a_user_header_is_believed_only_from_a_proxy(tmp_path: Path) -> None:
    access = {"proxies": ["testclient"], "user_header": "X-Remote-User", "user_scopes": ["read", "write"]}
    named = {"X-Remote-User": "dr. who", "X-Forwarded-Proto": "https"}
    with client(tmp_path / "a", access=access) as (page, _):
        session = page.get("/api/v1/session", headers=named).json()
        assert (session["user"], session["scopes"]) == ("dr. who", ["read", "write"])
        assert page.delete(STUDY, headers=named).status_code == 403
        csrf = {"X-CSRF-Token": session["csrf"]}
        assert page.delete(STUDY, headers={**named, **csrf}).status_code == 404
        assert page.get("/api/v1/log", headers=named).status_code == 403
        token = add_token(_.database, "x", ["read"])
        cookie = page.post("/api/v1/session", json={"token": token}, headers=named).headers["set-cookie"]
        assert "Secure" in cookie
    with client(tmp_path / "b", access={**access, "proxies": ["10.0.0.1"]}) as (page, _):
        assert page.get("/api/v1/session", headers=named).status_code == 401


def test_another_host_is_refused(served: Served) -> None:
    for host in ("evil.example", "evil.example:80", "", "[::2]"):
        assert served.client.get("/api/v1/health", headers={"Host": host}).status_code == 400
    for host in ("localhost", "127.0.0.1:8080", "[::1]:9"):
        assert served.client.get("/api/v1/health", headers={"Host": host}).status_code == 200


def test_too_many_requests_are_asked_to_wait(tmp_path: Path) -> None:
    with client(tmp_path, access={"requests_per_minute": 1}) as (page, _):
        answers = [page.get("/api/v1/health") for _ in range(8)]
        assert [answer.status_code for answer in answers[:5]] == [200] * 5
        assert answers[-1].status_code == 429
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].headers["content-type"] == "application/problem+json"


def test_wrong_tokens_are_slowed_down(tmp_path: Path) -> None:
    with client(tmp_path, access={"sign_ins_per_minute": 1}) as (page, _):
        wrong = [page.get("/api/v1/studies", headers=bearer(f"gg_{n}")).status_code for n in range(8)]
        assert wrong[:5] == [401] * 5
        assert wrong[-1] == 429


def test_buckets_fill_again() -> None:
    clock = [0.0]
    buckets = Buckets(60, lambda: clock[0])
    assert [buckets.wait("a") for _ in range(7)] == [0] * 6 + [1]
    assert buckets.wait("b") == 0
    clock[0] = 1.01
    assert [buckets.wait("a") for _ in range(2)] == [0, 1]


def test_without_authentication_only_loopback_is_bound(tmp_path: Path) -> None:
    open_to_all = ServeConfig(data=tmp_path, host="0.0.0.0", access={"required": False})  # type: ignore[arg-type]
    with pytest.raises(GroundglassError, match="binds loopback addresses only"):
        build(open_to_all)
    with client(tmp_path, access={"required": False}) as (page, _):
        assert page.get("/api/v1/studies").status_code == 200
        assert page.delete(STUDY).status_code == 403  # a page elsewhere must not make a browser do this
        csrf = page.get("/api/v1/session").json()["csrf"]
        assert page.delete(STUDY, headers={"X-CSRF-Token": csrf}).status_code == 404


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "prot: Extra inputs are not permitted"),
        ("worker: {processes: 0}", "worker.processes: Input should be greater than or equal to 1"),
        ("- a", "is not a table of settings"),
        ("a: [", "is not valid YAML"),
        ("bundles: []", "bundles: Tuple should have at least 1 item"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(GroundglassError, match=message):
        load_config(path)


def test_options_replace_settings(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("port: 1\nhost: 127.0.0.2\nupload: {total_mb: 10}")
    config = load_config(path, port=2, host=None)
    assert (config.port, config.host, config.upload.limits.bytes) == (2, "127.0.0.2", 10 << 20)


def test_the_log_tells_who_did_what(served: Served) -> None:
    study = served.send(("x", b"log me"))
    for _ in range(3):
        served.get(f"/studies/{study}")
    served.client.delete(f"/api/v1/studies/{study}", headers=served.bearer)
    lines = [line for line in served.get("/log", limit=10)["lines"] if line["study"] == study]
    assert [(line["who"], line["action"]) for line in lines] == [
        ("tests", "delete"),
        ("tests", "view"),
        ("tests", "send"),
    ]
