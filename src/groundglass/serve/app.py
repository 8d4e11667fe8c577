"""The application: the web page, and the REST API under ``/api/v1``."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry, Gauge

from groundglass import __version__
from groundglass.errors import GroundglassError, need_extra
from groundglass.scan.studies import key_of
from groundglass.serve import api, dicom
from groundglass.serve.auth import Access
from groundglass.serve.config import ServeConfig
from groundglass.serve.limits import Guard, Measured
from groundglass.serve.page import page_router
from groundglass.serve.problems import Problem, add_handlers
from groundglass.serve.server import OfferedBundle, Server
from groundglass.serve.workers import Workers
from groundglass.store import queue
from groundglass.store.database import Database
from groundglass.store.history import counts
from groundglass.store.retention import clean, sweep
from groundglass.store.tables import STATES

if TYPE_CHECKING:
    from groundglass.node.node import Node

log = logging.getLogger(__name__)

CLEANED = 600.0
"""Seconds between two cleanups."""


def build(config: ServeConfig, *, work: bool = True) -> FastAPI:
    """Create the application of a server, and migrate its database.

    Parameters
    ----------
    config
        The server's settings.
    work
        Start workers with the application; otherwise studies wait.

    Raises
    ------
    GroundglassError
        If the data folder, the database or a bundle cannot be used, or if the settings would open the server
        to everybody.
    """
    config.check()
    config = config.model_copy(update={"data": config.data.absolute()})
    key = key_of(config.data)
    database = Database.of(config.data, config.database)
    database.migrate()
    offered = [OfferedBundle.load(source, default=not place) for place, source in enumerate(config.bundles)]
    bundles = {one.info.name: one for one in offered}
    sources = {name: one.source for name, one in bundles.items()}
    registry = CollectorRegistry()
    workers = Workers(database, config.data, config.database, sources, config.worker)
    server = Server(config, database, bundles, registry, workers)
    server.node = _node(server)
    _gauges(server)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.recover(database)
        sweep(database, config.data)
        if work:
            workers.start()
        if server.node is not None:
            await asyncio.to_thread(server.node.start)
        cleaning = asyncio.create_task(_clean(server))
        yield
        cleaning.cancel()
        if server.node is not None:
            await asyncio.to_thread(server.node.stop)
        if work:
            workers.stop()
        database.close()

    app = FastAPI(
        title="Groundglass",
        version=__version__,
        summary="COVID-19 detection in chest CT. Research use only; not a medical device.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages would load scripts from other servers
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.server, app.state.access = server, Access(database, config.access, key)
    app.include_router(api.router, prefix=api.PREFIX)
    app.include_router(dicom.router, prefix=api.PREFIX)
    app.include_router(dicom.stow_router)
    app.include_router(page_router())
    add_handlers(app, _allowed)
    app.openapi = partial(_document, app)  # type: ignore[method-assign]
    app.add_middleware(Guard, config=config, measured=Measured.of(registry))
    return app


def _node(server: Server) -> "Node | None":
    """The DICOM node, if one is configured."""
    config = server.config.dicom
    if config is None:
        return None
    need_extra("pacs")
    from groundglass.node.node import Node

    wanted = server.wanted(config.bundle, anonymise=False)
    if wanted is None:
        raise GroundglassError(f"dicom.bundle: {config.bundle} is not among the server's bundles")
    return Node(config, server.database, server.data, wanted, server.config.upload.limits)


def _allowed(path: str) -> str:
    """The methods that a URL accepts, for the header ``Allow``."""
    inside = path.removeprefix(api.PREFIX)
    routes = [
        route
        for route in (*api.router.routes, *dicom.router.routes, *dicom.stow_router.routes)
        if isinstance(route, APIRoute) and route.path_regex.match(inside)
    ]
    return ", ".join(sorted(method for route in routes for method in route.methods or ()))


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, including the error schema that the operations refer to."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        app.openapi_schema = document
    return app.openapi_schema


async def _clean(server: Server) -> None:
    """Apply the retention rules at intervals."""
    while True:
        try:
            gone = await asyncio.to_thread(clean, server.database, server.data, server.config.retention.rules)
            if gone:
                log.info("%d studies were deleted by the retention rules", len(gone))
        except Exception as error:
            log.warning("cleanup failed (%s); trying again", type(error).__name__)
        await asyncio.sleep(CLEANED)


def _gauges(server: Server) -> None:
    """Metrics that are measured when Prometheus asks for them."""

    def gauge(name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(f"groundglass_{name}", text, registry=server.registry).set_function(value)

    def count(state: str) -> float:
        return counts(server.database).get(state, 0)

    studies = Gauge("groundglass_studies", "Studies by state.", ("state",), registry=server.registry)
    for state in STATES:
        studies.labels(state).set_function(partial(count, state))
    gauge("workers_ready", "Workers that can answer.", lambda: server.workers.ready)
    gauge("workers_bytes", "Memory of all workers.", lambda: server.workers.memory)
    gauge(
        "disk_free_bytes",
        "Free space on the data folder's disk.",
        lambda: shutil.disk_usage(server.data).free,
    )
