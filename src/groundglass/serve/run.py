"""``groundglass serve``: bind the address, make the first token, and run until stopped."""

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from filelock import FileLock, Timeout

from groundglass.errors import GroundglassError
from groundglass.files import reason_of
from groundglass.serve.app import build
from groundglass.serve.config import ServeConfig
from groundglass.serve.server import Server
from groundglass.store.access import SCOPES, add_token, tokens

LOCK_FILE = ".lock"
GRACE = 5
"""Seconds that open connections have to finish when the server stops."""


def serve(config: ServeConfig, tell: Callable[[str], None]) -> None:
    """Run the server until it is stopped.

    Parameters
    ----------
    config
        Its settings.
    tell
        Called with lines for the user: the address and, only once, the first token.

    Raises
    ------
    GroundglassError
        If the data folder, the database, a bundle or the address cannot be used.
    """
    config.check()
    try:
        config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(config.data / LOCK_FILE, blocking=False)
        with lock:
            _run(config, tell)
    except Timeout as error:
        raise GroundglassError(f"{config.data}: another server uses this folder; stop it first") from error
    except OSError as error:
        raise GroundglassError(f"{config.data}: cannot be used ({reason_of(error)})") from error


def _run(config: ServeConfig, tell: Callable[[str], None]) -> None:
    app = build(config)
    server: Server = app.state.server
    listening = _listen(config.host, config.port)
    if server.node is not None:
        server.node.listen()
    host = f"[{config.host}]" if ":" in config.host else config.host
    tell(
        f"Groundglass listens at http://{host}:{listening.getsockname()[1]} and stores studies in {config.data}"
    )
    if config.access.required and not tokens(server.database):
        token = add_token(server.database, "first", SCOPES)
        tell(f"The first token (it is shown only once): {token}")
    if config.dicom is not None:
        tell(f"The DICOM node {config.dicom.ae_title} listens at {config.dicom.host}:{config.dicom.port}")
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # groundglass.serve.limits trusts only the proxies in the configuration
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    with suppress(KeyboardInterrupt):  # the usual way to stop it
        uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise GroundglassError(
            f"{host}, port {port}: cannot be bound ({reason_of(error)}); choose another with --port"
        ) from error
