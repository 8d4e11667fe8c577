"""Applied to every request: Host check, rate limit, security headers, log line and metrics."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from groundglass.serve.config import ServeConfig
from groundglass.serve.problems import problem

log = logging.getLogger(__name__)

API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
SAFETY = {
    "Content-Security-Policy": API_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""Headers of each response, unless it sets its own."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
FORGET = 600.0
BODY = 1 << 16
"""Maximum size in bytes of a request that is not an upload."""


class Buckets:
    """Limits each client to a number of requests per minute, with bursts of a tenth of it.

    Parameters
    ----------
    per_minute
        Requests.
    clock
        Returns seconds, never decreasing.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate, self._most = per_minute / 60, max(5.0, per_minute / 10)
        self._clients: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait(self, client: str) -> int:
        """Count a request; returns the seconds to wait if there were too many, else 0."""
        now = self._clock()
        with self._lock:
            if len(self._clients) > 10_000:
                self._clients = {one: seen for one, seen in self._clients.items() if now - seen[1] < FORGET}
            left, seen = self._clients.get(client, (self._most, now))
            left = min(self._most, left + (now - seen) * self._rate)
            allowed = left >= 1
            self._clients[client] = (left - allowed, now)
        return 0 if allowed else max(1, math.ceil((1 - left) / self._rate))


@dataclass(frozen=True)
class Measured:
    """Request metrics for Prometheus, by route and never by URL."""

    requests: Counter
    seconds: Histogram

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "Measured":
        """New metrics in a registry."""
        labels = ("method", "route", "status")
        return cls(
            Counter("groundglass_requests", "Requests.", labels, registry=registry),
            Histogram(
                "groundglass_request_seconds", "Response time in seconds.", ("route",), registry=registry
            ),
        )


class Guard:
    """The outermost layer of the application.

    Parameters
    ----------
    app
        The application that answers the requests.
    config
        Hosts, proxies and rates.
    measured
        The metrics that count requests.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, measured: Measured) -> None:
        self._app, self._measured, self._proxies = app, measured, set(config.access.proxies)
        self._hosts = {"localhost", "127.0.0.1", "::1", config.host.lower(), *map(str.lower, config.hosts)}
        self._buckets = Buckets(config.access.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, headers = time.perf_counter(), Headers(scope=scope)
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                for name, value in SAFETY.items():
                    answer.setdefault(name, value)
            await send(message)

        self._client(scope, headers)
        try:
            await (self._refused(scope, headers) or self._app)(scope, receive, sending)
        finally:
            self._tell(scope, status, time.perf_counter() - started)

    def _client(self, scope: Scope, headers: Headers) -> None:
        """Record the client and its protocol in the request's state."""
        state = scope.setdefault("state", {})
        peer = (scope.get("client") or ("", 0))[0]
        state["by_proxy"] = peer in self._proxies
        state["client"], state["https"] = peer, scope.get("scheme") == "https"
        if state["by_proxy"]:
            state["client"] = headers.get("x-forwarded-for", peer).rpartition(",")[2].strip() or peer
            state["https"] = headers.get("x-forwarded-proto", "") == "https"

    def _refused(self, scope: Scope, headers: Headers) -> Any:
        """A response that refuses the request, if necessary."""
        if _host(headers.get("host", "")) not in self._hosts:
            return problem(400, "this is not a name of the server; add it to `hosts` in the configuration")
        if wait := self._buckets.wait(scope["state"]["client"]):
            return problem(429, "too many requests; wait", {"Retry-After": str(wait)})
        uploads = scope["method"] == "POST" and scope["path"].endswith("/studies")
        length = headers.get("content-length", "0")
        if not uploads and ("transfer-encoding" in headers or not length.isdecimal() or int(length) > BODY):
            return problem(413, "the request is too long")
        return None

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")  # the URL itself could contain a file's name
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._measured.requests.labels(method, route, status).inc()
        self._measured.seconds.labels(route).observe(seconds)
        log.info("%s %s %d %.0f ms", method, route, status, seconds * 1000)


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
