"""The commands that manage a server, and that the program does not load the server's libraries for others."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from groundglass.cli.app import app
from groundglass.errors import GroundglassError
from groundglass.store.access import token_of
from groundglass.store.database import Database


def run(*words: object) -> str:
    done = CliRunner().invoke(
        app, [str(word) for word in words], env={"COLUMNS": "200"}, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def test_tokens_are_made_listed_and_revoked(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    secret = run("server", "token", "ward-3", "--scope", "read", "--scope", "write", "--data", data).strip()
    run("server", "token", "short", "--days", "1", "--data", data)
    database = Database.of(data)
    token = token_of(database, secret)
    assert token is not None
    assert (token.name, token.scopes, token.expires) == ("ward-3", ["read", "write"], None)
    listed = run("server", "tokens", "--data", data)
    assert re.search(rf"{token.id} .*ward-3 .*read, write .*never", listed)
    assert secret not in listed
    run("server", "revoke", token.id, "--data", data)
    assert token_of(database, secret) is None
    with pytest.raises(GroundglassError, match="there is no such token"):
        run("server", "revoke", token.id, "--data", data)
    database.close()


def test_a_backup_is_made_and_restored(tmp_path: Path) -> None:
    data, copy, archive = tmp_path / "data", tmp_path / "copy", tmp_path / "backup.tar"
    data.mkdir()
    secret = run("server", "token", "x", "--data", data).strip()
    assert f"Studies saved to {archive}: 0." in run("server", "backup", "-o", archive, "--data", data)
    assert f"Studies restored to {copy}: 0." in run("server", "restore", archive, "--data", copy)
    assert token_of(Database.of(copy), secret) is not None


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="there is no such data folder; name one with --data"):
        run("server", "tokens", "--data", tmp_path / "none")


def test_the_program_starts_without_the_libraries_of_the_server() -> None:
    code = "import sys, groundglass.cli.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"fastapi", "sqlalchemy", "alembic", "uvicorn", "httpx", "psutil"} & set(loaded.split())
