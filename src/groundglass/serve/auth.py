"""The user of a request: a program with a token, a person who signed in, or a user named by a reverse proxy."""

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NoReturn

from fastapi import Depends, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from groundglass.serve.config import AccessConfig
from groundglass.serve.limits import Buckets
from groundglass.store.access import DAY, SCOPES, add_token, record, revoke, token_of
from groundglass.store.database import Database
from groundglass.store.tables import Token

log = logging.getLogger(__name__)

COOKIE = "groundglass"
CSRF_HEADER = "X-CSRF-Token"
SAFE = ("GET", "HEAD", "OPTIONS")
SIGN_IN = "send a token in the header `Authorization: Bearer TOKEN`, or sign in"

bearer = HTTPBearer(auto_error=False, description="A token from `groundglass server token`.")


@dataclass(frozen=True)
class User:
    """The user of a request.

    Attributes
    ----------
    name
        The token's name, or the name given by the proxy.
    scopes
        The user's permissions.
    csrf
        The value that requests that change something must repeat in ``X-CSRF-Token``; None for a token in the
        header, which browsers never send by themselves.
    """

    name: str
    scopes: frozenset[str]
    csrf: str | None = None


class Access:
    """Identifies the user of a request.

    Parameters
    ----------
    database
        The server's database.
    config
        The section ``access`` of the configuration.
    key
        The server's secret.
    """

    def __init__(self, database: Database, config: AccessConfig, key: bytes) -> None:
        self._database, self.config, self._key = database, config, key
        self._failures = Buckets(config.sign_ins_per_minute)

    def user(self, request: Request, credentials: HTTPAuthorizationCredentials | None) -> User:
        """The user of a request; raises HTTPException if there is none, or if a CSRF token is missing."""
        user = self._of(request, credentials)
        if user is None and not self.config.required and "authorization" not in request.headers:
            user = User("local", frozenset(SCOPES), self._csrf("local"))
        if user is None:
            self._refuse(request, "a valid token is needed")
        if user.csrf is not None and request.method not in SAFE:
            sent = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(sent.encode(), user.csrf.encode()):
                raise HTTPException(403, f"the header {CSRF_HEADER} is missing or wrong; sign in again")
        return user

    def sign_in(self, request: Request, response: Response, secret: str) -> User:
        """Open a session with a token, as a cookie; raises HTTPException if the token is not valid."""
        token = token_of(self._database, secret)
        if token is None or token.parent is not None:
            self._refuse(request, "the token is not valid")
        hours = self.config.session_hours
        session = add_token(self._database, token.name, token.scopes, hours * 3600 / DAY, token)
        record(self._database, token.name, "sign-in")
        response.set_cookie(
            COOKIE,
            session,
            max_age=int(hours * 3600),
            httponly=True,
            samesite="strict",
            secure=request.state.https,
        )
        return self._session(token, session)

    def sign_out(self, request: Request, response: Response) -> None:
        """End the session of a request."""
        token = token_of(self._database, request.cookies.get(COOKIE, ""))
        if token is not None and token.parent is not None:
            revoke(self._database, token.id)
            record(self._database, token.name, "sign-out")
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.state.https)

    def _of(self, request: Request, credentials: HTTPAuthorizationCredentials | None) -> User | None:
        if credentials is not None:
            token = token_of(self._database, credentials.credentials)
            if token is None or token.parent is not None:
                return None
            return User(token.name, frozenset(token.scopes))
        if secret := request.cookies.get(COOKIE):
            token = token_of(self._database, secret)
            return None if token is None or token.parent is None else self._session(token, secret)
        header = self.config.user_header
        if header and request.state.by_proxy and (name := request.headers.get(header, "").strip()):
            return User(name[:200], frozenset(self.config.user_scopes), self._csrf(name))
        return None

    def _session(self, token: Token, secret: str) -> User:
        return User(token.name, frozenset(token.scopes), self._csrf(secret))

    def _csrf(self, secret: str) -> str:
        return hmac.new(self._key, f"csrf {secret}".encode(), hashlib.sha256).hexdigest()

    def _refuse(self, request: Request, why: str) -> NoReturn:
        """Raise HTTPException; clients that repeatedly send wrong tokens have to wait."""
        tried = "authorization" in request.headers or request.method == "POST" or request.cookies.get(COOKIE)
        if tried and (wait := self._failures.wait(request.state.client)):
            raise HTTPException(429, "too many wrong tokens; wait", {"Retry-After": str(wait)})
        raise HTTPException(401, f"{why}: {SIGN_IN}", {"WWW-Authenticate": "Bearer"})


def needs(scope: str) -> Callable[..., User]:
    """A dependency that returns the user, and refuses users without a scope."""

    def user(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> User:
        access: Access = request.app.state.access
        found = access.user(request, credentials)
        if scope not in found.scopes:
            raise HTTPException(403, f"this needs a token with the scope {scope}")
        return found

    return user
