"""A Python client: send studies to a server, wait for the answers, and get the results."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from groundglass.errors import GroundglassError

FIRST_PAUSE = 0.2
TRIES = 60


class ServerError(GroundglassError):
    """An error response of the server.

    Parameters
    ----------
    status
        The HTTP status; 0 if there is no connection.
    detail
        What is wrong, and what to do about it.
    """

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(f"the server answered {status}: {detail}")


class Client:
    """Communicates with a server, and repeats a request if the server asks for it.

    Parameters
    ----------
    url
        The server's address, such as ``http://127.0.0.1:8080``.
    token
        A token of ``groundglass server token``.
    timeout
        Seconds to wait for one response.

    Examples
    --------
    The page about the server has an example, which a test runs::

        with Client("http://127.0.0.1:8080", token) as client:
            study = client.wait(client.send(["ct.nii.gz"]))
            client.save(study["id"], "report.html", "report.html")
    """

    def __init__(self, url: str, token: str, timeout: float = 120) -> None:
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, files: Sequence[Path | str], *, bundle: str | None = None, anonymise: bool = False) -> str:
        """Send the files of one study; returns its id once they are stored durably."""
        options = {"bundle": bundle, "anonymise": str(anonymise).lower()}
        params = {name: value for name, value in options.items() if value is not None}

        def request() -> httpx.Response:
            with ExitStack() as stack:
                opened = [stack.enter_context(Path(file).open("rb")) for file in files]
                parts = [
                    ("files", (Path(file).name, handle)) for file, handle in zip(files, opened, strict=True)
                ]
                return self._http.post("/studies", params=params, files=parts)

        return str(self._again(request).json()["id"])

    def study(self, study: str) -> dict[str, Any]:
        """The server's data on a study."""
        return dict(self._get(f"/studies/{study}").json())

    def studies(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """All studies, the latest first; ``filters`` are named as in the API, such as ``state="failed"``."""
        offset, total = 0, 1
        while offset < total:
            page = self._get("/studies", **filters, limit=100, offset=offset).json()
            yield from page["studies"]
            offset, total = offset + 100, page["total"]

    def wait(self, study: str, timeout: float | None = None) -> dict[str, Any]:
        """Wait until a study is done or has failed.

        Raises
        ------
        ServerError
            If that takes longer than ``timeout`` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_PAUSE
        while (found := self.study(study))["state"] not in ("done", "failed"):
            if end is not None and time.monotonic() > end:
                raise ServerError(200, f"the study is still {found['state']}")
            time.sleep(pause)
            pause = min(2.0, pause * 1.5)
        return found

    def save(self, study: str, name: str, path: Path | str) -> Path:
        """Write one of a study's results, such as ``report.html``, to a file."""
        target = Path(path)
        target.write_bytes(self._get(f"/studies/{study}/results/{name}").content)
        return target

    def delete(self, study: str) -> None:
        """Delete a study with its files and results."""
        self._again(lambda: self._http.delete(f"/studies/{study}"))

    def _get(self, path: str, **params: Any) -> httpx.Response:
        return self._again(lambda: self._http.get(path, params=params))

    def _again(self, request: Any) -> httpx.Response:
        """Send a request, and repeat it if the server asks for it or the connection breaks.

        Every request of this client may safely be sent twice.
        """
        for attempt in range(1, TRIES + 1):
            try:
                answer: httpx.Response = request()
            except httpx.TransportError as error:
                if attempt == TRIES or isinstance(error, httpx.ConnectError):
                    raise ServerError(0, f"there is no connection ({type(error).__name__})") from error
                time.sleep(1)
                continue
            if answer.status_code not in (429, 503) or attempt == TRIES:
                break
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        if answer.is_success:
            return answer
        try:
            detail = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = answer.reason_phrase
        raise ServerError(answer.status_code, detail)
