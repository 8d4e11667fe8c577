"""Send results to a destination until it has accepted them or the configured time has passed."""

import logging
import secrets
import threading
from pathlib import Path

import pydicom
from pydicom import Dataset

from groundglass.dicom_out.write import anonymised
from groundglass.errors import place_of
from groundglass.node.config import Destination
from groundglass.node.peers import Client, PeerError, RefusesError
from groundglass.store import queue
from groundglass.store.database import Database
from groundglass.store.history import superseded
from groundglass.store.queue import ATTEMPTS, Claim
from groundglass.store.upload import RESULTS, STUDIES

log = logging.getLogger(__name__)

LOOK = 0.3
"""Seconds between two checks of an empty queue."""
LONGEST_PAUSE = 20.0
"""Longest interval between two attempts in seconds; a destination gets everything soon after it is back."""
ORDER = ("seg", "sc", "sr")
"""The report comes last: it refers to the segmentation."""


class Sender:
    """Sends to one destination, one study after the other.

    Parameters
    ----------
    destination
        The destination, and what is sent there.
    client
        The destination's client.
    database, data
        The server's database and data folder.
    key
        The server's secret, from which pseudonyms are derived.
    give_up_hours
        Hours after which results that cannot be sent count as failed.
    """

    def __init__(
        self,
        destination: Destination,
        client: Client,
        database: Database,
        data: Path,
        key: bytes,
        give_up_hours: float,
    ) -> None:
        self._destination, self._client = destination, client
        self._database, self._data, self._key = database, data, key
        self._attempts = max(ATTEMPTS, give_up_hours * 3600 / LONGEST_PAUSE)
        self._owner = secrets.token_hex(8)
        self._unreachable = 0

    def run(self, over: threading.Event) -> None:
        """Send until ``over`` is set. While the destination is unreachable, only one study is tried at a time."""
        while not over.wait(queue.delay(self._unreachable, LONGEST_PAUSE) if self._unreachable else LOOK):
            try:
                while not over.is_set() and self.one() and not self._unreachable:
                    pass
            except Exception as error:  # such as a database that is briefly unreachable
                log.error("%s: nothing was sent: %s", self._destination.to, place_of(error))
                over.wait(LONGEST_PAUSE)

    def one(self) -> bool:
        """Send the results that have waited longest; False if none are waiting."""
        lease = queue.claim(self._database, self._owner, self._destination.to)
        if lease is None:
            return False
        try:
            if superseded(self._database, lease.study):
                queue.finish(self._database, lease, {"problem": "superseded before it was sent"})
                return True
            objects = self._objects(lease.study)
            if not objects:
                queue.fail(self._database, lease, "there are no DICOM results of this study")
                return True
            self._client.store(objects, lambda count: self._begin(lease, count, len(objects)))
            queue.finish(self._database, lease, {})
            self._unreachable = 0
        except RefusesError as error:
            self._unreachable = 0
            self._later(lease, error, ATTEMPTS)
        except PeerError as error:
            self._unreachable += 1
            self._later(lease, error, self._attempts)
        except Exception as error:
            log.error("%s: a study was not sent: %s", self._destination.to, place_of(error))
            queue.fail(self._database, lease, f"an error in Groundglass ({place_of(error)})")
        return True

    def _begin(self, lease: Claim, count: int, total: int) -> None:
        queue.renew(self._database, lease, count, total)

    def _later(self, lease: Claim, error: PeerError, attempts: float) -> None:
        log.warning("%s, attempt %d", error, lease.attempts)
        queue.postpone(self._database, lease, str(error), attempts=attempts, longest=LONGEST_PAUSE)

    def _objects(self, study: str) -> list[Dataset]:
        folder = self._data / STUDIES / study / RESULTS
        wanted = [name for name in ORDER if name in self._destination.objects]
        paths = [folder / f"{name}.dcm" for name in wanted]
        objects: list[Dataset] = [pydicom.dcmread(path) for path in paths if path.is_file()]
        if self._destination.anonymise:
            for one in objects:
                anonymised(one, self._key)
        return objects
