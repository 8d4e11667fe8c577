"""State shared by the API's operations: settings, database, bundles, workers."""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from groundglass.commands.predict_volumes import made_by
from groundglass.detect.bundle import Bundle
from groundglass.report.volume import caveats
from groundglass.segment.segmenter import SegmenterBundle
from groundglass.serve.config import ServeConfig
from groundglass.serve.models import BundleInfo
from groundglass.serve.workers import Workers
from groundglass.store.database import Database
from groundglass.store.intake import Wanted
from groundglass.store.upload import RefusedError, check_room

if TYPE_CHECKING:
    from groundglass.node.node import Node


@dataclass(frozen=True)
class OfferedBundle:
    """A bundle that requests may use.

    Attributes
    ----------
    info
        The API's description of it.
    source
        Its location.
    key
        A hash of everything that results depend on, other than files and options.
    """

    info: BundleInfo
    source: str
    key: str

    @classmethod
    def load(cls, source: str, *, default: bool) -> "OfferedBundle":
        """Read a bundle's facts; raises BundleError as groundglass.Bundle.load does."""
        bundle = Bundle.load(source)
        segmenter = bundle.segmenter or SegmenterBundle.load()
        key = hashlib.sha256(json.dumps(made_by(bundle, segmenter)).encode()).hexdigest()
        info = BundleInfo(
            name=bundle.facts.name,
            default=default,
            trained_on=bundle.facts.training.dataset,
            limits=caveats(bundle.facts),
            graph_sha256=bundle.facts.graph_sha256,
        )
        return cls(info, str(bundle.source.absolute()), key)


@dataclass
class Server:
    """State used by the API's operations, as ``app.state.server``.

    Attributes
    ----------
    bundles
        Bundles by name; the first one is the default.
    node
        The DICOM node, if one is configured.
    """

    config: ServeConfig
    database: Database
    bundles: dict[str, OfferedBundle]
    registry: CollectorRegistry
    workers: Workers
    node: "Node | None" = None
    uploads: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.uploads = asyncio.Semaphore(self.config.upload.at_once)

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.config.data

    @property
    def room(self) -> bool:
        """Whether uploads are accepted."""
        try:
            check_room(self.data, self.config.upload.limits)
        except (RefusedError, OSError):
            return False
        return True

    def wanted(self, bundle: str | None, anonymise: bool) -> Wanted | None:
        """How a study is to be answered; None if there is no such bundle."""
        offered = self.bundles.get(bundle or next(iter(self.bundles)))
        if offered is None:
            return None
        return Wanted(offered.info.name, offered.key, {"anonymise": True} if anonymise else {})
