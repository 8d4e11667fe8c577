"""The node: its receiver, and the threads that sort, send and fetch."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import select

from groundglass.errors import place_of
from groundglass.node.arrivals import Arrivals, code_of
from groundglass.node.config import DicomConfig, FetchRule
from groundglass.node.inbox import Inbox, tidy
from groundglass.node.peers import PeerError, client_of
from groundglass.node.receive import Receiver
from groundglass.node.send import Sender
from groundglass.scan.studies import key_of
from groundglass.store.database import Database
from groundglass.store.intake import Wanted
from groundglass.store.tables import BY_DICOM, Arrival
from groundglass.store.upload import INCOMING, NODE, Limits, RefusedError, check_room

log = logging.getLogger(__name__)

LOOK = 0.3
"""Seconds between two checks for new instances."""


class Node:
    """A DICOM node.

    Parameters
    ----------
    config
        The section ``dicom`` of the configuration.
    database, data
        The server's database and data folder.
    wanted
        How studies are to be answered.
    limits
        The limits of a study, and the space that must remain free on the disk.
    """

    def __init__(
        self, config: DicomConfig, database: Database, data: Path, wanted: Wanted, limits: Limits
    ) -> None:
        self.config, self._database = config, database
        self._root = data / NODE / INCOMING
        self._room = lambda: check_room(data, limits)
        self._clients = {peer.name: client_of(config, peer) for peer in config.peers}
        wanted = Wanted(wanted.bundle, wanted.bundle_key, {**wanted.options, BY_DICOM: True})
        counted = self._counted if config.counts_from else None
        self._arrivals = Arrivals(config, database, data, wanted, limits, counted)
        self._senders = [
            Sender(one, self._clients[one.to], database, data, key_of(data), config.give_up_hours)
            for one in config.destinations
        ]
        self.receiver = Receiver(config, self._root, self._room)
        self._listening = False
        self._inboxes: set[str] = set()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def listen(self) -> None:
        """Start listening; raises GroundglassError if the port cannot be bound."""
        tidy(self._root)
        self.receiver.start()
        self._listening = True

    def start(self) -> None:
        """Complete interrupted steps, and start; raises GroundglassError as :meth:`listen` does."""
        if not self._listening:
            self.listen()
        self._arrivals.recover()
        self._begin("arrivals", self._sort)
        for sender in self._senders:
            self._begin("sender", sender.run, self._over)
        for rule in self.config.fetch:
            self._begin("fetch", self._fetch, rule)

    def _begin(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, name=name, daemon=True))
        self._threads[-1].start()

    def stop(self) -> None:
        """Stop listening, and end the threads; unfinished work is done after the next start."""
        self._over.set()
        self.receiver.stop()
        for thread in self._threads:
            thread.join(5)

    @contextmanager
    def inbox(self, caller: str) -> Iterator[Inbox]:
        """A folder for instances that do not arrive by an association; it counts as open during the block."""
        inbox = Inbox(self._root, caller, self._room)
        self._inboxes.add(inbox.folder.name)
        try:
            yield inbox
        finally:
            self._inboxes.discard(inbox.folder.name)

    def _sort(self) -> None:
        while not self._over.wait(LOOK):
            try:
                self._arrivals.look(self.receiver.open() | self._inboxes.copy())
            except Exception as error:  # such as a full disk
                log.error("received instances could not be sorted: %s; trying again", place_of(error))
                self._over.wait(1)

    def _counted(self, study: str) -> Mapping[str, int]:
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": "", "NumberOfSeriesRelatedInstances": ""}
        found = self._clients[str(self.config.counts_from)].find("SERIES", keys)
        return {
            code_of(str(one.SeriesInstanceUID)): int(one.NumberOfSeriesRelatedInstances)
            for one in found
            if one.get("SeriesInstanceUID") and one.get("NumberOfSeriesRelatedInstances")
        }

    def _fetch(self, rule: FetchRule) -> None:
        while not self._over.is_set():
            try:
                self.fetch_new(rule)
            except (PeerError, RefusedError) as error:
                log.warning("nothing was fetched: %s", error)
            except Exception as error:
                log.error("nothing was fetched: %s", place_of(error))
            self._over.wait(rule.minutes * 60)

    def fetch(self, peer: str, study: str) -> int:
        """Fetch the CT of a study from a peer.

        Parameters
        ----------
        peer
            Its name in the configuration.
        study
            StudyInstanceUID.

        Returns
        -------
        The number of instances fetched; 0 if they arrive by C-MOVE, in another association.

        Raises
        ------
        PeerError
            If the peer cannot be reached, or refuses.
        RefusedError
            If the disk is full.
        """
        with self.inbox(peer) as inbox:
            return self._clients[peer].fetch(study, None, inbox)

    def fetch_new(self, rule: FetchRule) -> int:
        """Fetch the studies that match a rule and are not here yet; returns their number."""
        today = date.today()
        first = today - timedelta(days=rule.days - 1)
        keys = {
            "StudyDate": f"{first:%Y%m%d}-{today:%Y%m%d}",
            "StudyInstanceUID": "",
            "StudyDescription": "",
            "ModalitiesInStudy": "CT",
        }
        fetched = 0
        for found in self._clients[rule.source].find("STUDY", keys):
            uid, description = str(found.get("StudyInstanceUID", "")), str(found.get("StudyDescription", ""))
            if not uid or self._known(uid) or not re.search(rule.description, description, re.IGNORECASE):
                continue
            self.fetch(rule.source, uid)
            fetched += 1
            if self._over.is_set():
                break
        return fetched

    def _known(self, uid: str) -> bool:
        with self._database.read() as session:
            return session.scalar(select(Arrival.id).where(Arrival.uid == uid)) is not None
