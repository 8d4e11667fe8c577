"""The commands ``groundglass serve`` and ``groundglass server ...``; heavy imports are inside the functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass.cli.options import Detector, command, output
from groundglass.cli.output import table
from groundglass.errors import count_of

if TYPE_CHECKING:
    from groundglass.serve.config import ServeConfig
    from groundglass.store.database import Database

app = typer.Typer(
    help="Manage a server: tokens, backup and restore.", no_args_is_help=True, rich_markup_mode="markdown"
)
Data = Annotated[
    str | None, typer.Option("--data", help="The server's data folder (default: groundglass-data).")
]
Config = Annotated[
    Path | None, typer.Option("--config", help="The settings file, such as serve.yaml (docs/server.md).")
]


def register(main: typer.Typer) -> None:
    """Add the commands to the program."""
    command(
        main,
        "serve",
        "serve --data /srv/groundglass --port 9000",
        "serve --config serve.yaml --bundle my-bundle.zip",
    )(serve)
    command(app, "server token ward-3 --scope read --scope write --days 365")(token)
    command(app, "server tokens --data /srv/groundglass")(tokens)
    command(app, "server revoke 1a2b3c4d")(revoke)
    command(app, "server backup -o backup.tar")(backup)
    command(app, "server restore backup.tar --data /srv/groundglass")(restore)
    main.add_typer(app, name="server")


def serve(
    data: Data = None,
    host: Annotated[
        str | None, typer.Option("--host", help="The address to listen on (default: 127.0.0.1).")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="The port to listen on; 0 for any free one (default: 8080).")
    ] = None,
    config: Config = None,
    bundle: Detector = None,
) -> None:
    """Run a server with a REST API that receives studies, runs the detector on them, and stores the results.

    The first start creates the data folder and prints a token. Nothing else is needed: no database server, broker
    or container. docs/server.md describes the API, the settings and the deployment.
    """
    settings = _config(config, data, host=host, port=port, bundles=bundle and [bundle])
    from groundglass.serve.run import serve as run

    run(settings, typer.echo)


def token(
    name: Annotated[str, typer.Argument(help="The user of the token; this name appears in the log.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help="read: see studies; write: send and delete; admin: see the log (default: read)."
        ),
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", help="Days after which it expires (default: never).")
    ] = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Make a token for a program or a person, and print it. Only its hash is stored."""
    from groundglass.store.access import add_token

    typer.echo(add_token(_database(_config(config, data)), name, scope or ["read"], days))


def tokens(data: Data = None, config: Config = None) -> None:
    """List the tokens, without their secrets."""
    from groundglass.serve.models import when
    from groundglass.store.access import tokens as listed

    rows = [
        (one.id, one.name, ", ".join(one.scopes), f"{when(one.created):%Y-%m-%d}", _day(one.expires))
        for one in listed(_database(_config(config, data)))
    ]
    table(count_of(len(rows), "token"), ("id", "name", "scopes", "created", "expires"), rows)


def revoke(
    token: Annotated[str, typer.Argument(help="The token's id, as `groundglass server tokens` lists it.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Delete a token; users who signed in with it are signed out."""
    from groundglass.errors import GroundglassError
    from groundglass.store.access import revoke as delete

    if not delete(_database(_config(config, data)), token):
        raise GroundglassError(f"{token}: there is no such token; `groundglass server tokens` lists them")


def backup(
    output: Annotated[Path, output("The file to write.")] = Path("groundglass-backup.tar"),
    data: Data = None,
    config: Config = None,
) -> None:
    """Write the database, all files and all results into one file; the server may be running."""
    from groundglass.store.backup import back_up

    settings = _config(config, data)
    studies = back_up(_database(settings), settings.data, output)
    typer.echo(f"Studies saved to {output}: {studies}. It holds patient data: keep it safe.")


def restore(
    archive: Annotated[Path, typer.Argument(help="A file written by `groundglass server backup`.")],
    data: Data = None,
    config: Config = None,
) -> None:
    """Restore a backup into a new data folder, and into an empty database if serve.yaml names one."""
    from groundglass.store.backup import restore as run

    settings = _config(config, data)
    studies = run(archive, settings.data, settings.database)
    typer.echo(f"Studies restored to {settings.data}: {studies}.")


def _config(path: Path | None, data: str | None, **options: object) -> "ServeConfig":
    from groundglass.errors import need_extra

    need_extra("serve")
    from groundglass.serve.config import load_config

    return load_config(path, data=data, **options)


def _database(settings: "ServeConfig") -> "Database":
    """The database of a server that has been started before."""
    from groundglass.errors import GroundglassError
    from groundglass.store.database import Database

    if not settings.data.is_dir():
        raise GroundglassError(f"{settings.data}: there is no such data folder; name one with --data")
    database = Database.of(settings.data, settings.database)
    database.migrate()
    return database


def _day(seconds: float | None) -> str:
    from groundglass.serve.models import when

    return "never" if seconds is None else f"{when(seconds):%Y-%m-%d}"
