"""Tokens and sessions, stored only as hashes, and the log of user actions."""

import hashlib
import secrets
import time
from collections.abc import Sequence

from sqlalchemy import delete, func, select

from groundglass.errors import GroundglassError
from groundglass.store.database import Database
from groundglass.store.tables import Event, Token

SCOPES = ("read", "write", "admin")
"""The permissions of a token: see studies and results, send and delete them, and read the log."""
DAY = 86400.0
AGAIN = 600.0
"""Repeated views of a study by the same user within this many seconds are logged once."""


def hash_of(secret: str) -> str:
    """The stored hash of a secret; secrets are random, so a plain hash is sufficient."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add_token(
    database: Database,
    name: str,
    scopes: Sequence[str],
    days: float | None = None,
    parent: Token | None = None,
) -> str:
    """Create a token, or a session for one.

    Parameters
    ----------
    database
        The server's database.
    name
        The user.
    scopes
        Some of :data:`SCOPES`.
    days
        Days until it expires; None for never.
    parent
        For a session, the token that opened it.

    Returns
    -------
    The secret, which is not stored.

    Raises
    ------
    GroundglassError
        If a scope is unknown, or there is none.
    """
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise GroundglassError(f"scopes: {', '.join(unknown) or 'none'}; choose from {', '.join(SCOPES)}")
    secret = "gg_" + secrets.token_urlsafe(32)
    now = time.time()
    token = Token(
        id=secrets.token_hex(4) if parent is None else secrets.token_hex(8),
        hash=hash_of(secret),
        name=name,
        scopes=list(scopes),
        created=now,
        expires=None if days is None else now + days * DAY,
        parent=None if parent is None else parent.id,
    )
    with database.write() as session:
        session.add(token)
    return secret


def token_of(database: Database, secret: str) -> Token | None:
    """The token or session of a secret; None if there is none, or if it or its parent has expired."""
    with database.read() as session:
        token = session.scalar(select(Token).where(Token.hash == hash_of(secret)))
        if token is None or _over(token):
            return None
        parent = None if token.parent is None else session.get(Token, token.parent)
    return None if parent is not None and _over(parent) else token


def _over(token: Token) -> bool:
    return token.expires is not None and token.expires < time.time()


def tokens(database: Database) -> list[Token]:
    """All tokens, without sessions, in order of creation."""
    with database.read() as session:
        return list(session.scalars(select(Token).where(Token.parent.is_(None)).order_by(Token.created)))


def revoke(database: Database, token: str) -> bool:
    """Delete a token with its sessions, or one session; False if there is no such id."""
    with database.write() as session:
        session.execute(delete(Token).where(Token.parent == token))
        return session.execute(delete(Token).where(Token.id == token).returning(Token.id)).first() is not None


def record(database: Database, who: str, action: str, study: str | None = None) -> None:
    """Write a line to the log; another view of the same study shortly afterwards is not logged again."""
    now = time.time()
    if action == "view":
        same = (Event.who == who) & (Event.action == action) & (Event.study == study)
        with database.read() as session:
            last = session.scalar(select(func.max(Event.at)).where(same, Event.at > now - AGAIN))
        if last is not None:
            return
    with database.write() as session:
        session.add(Event(at=now, who=who, action=action, study=study))


def events(database: Database, limit: int = 100, offset: int = 0) -> tuple[list[Event], int]:
    """Lines of the log, the latest first, and their total number."""
    with database.read() as session:
        latest = select(Event).order_by(Event.id.desc()).limit(limit).offset(offset)
        total = session.scalar(select(func.count()).select_from(Event)) or 0
        return list(session.scalars(latest)), total
