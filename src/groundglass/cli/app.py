"""The program ``groundglass``, which collects the commands. ``groundglass --help`` lists them."""

import gc
import sys
from typing import Annotated

import typer

from groundglass import __version__
from groundglass.cli import audit, compare, data, evaluate, pacs, predict, report, segment, serve, train
from groundglass.cli.options import Quiet, Verbose
from groundglass.cli.output import (
    EXIT_CODES,
    FAILED,
    STOPPED,
    WRONG_USAGE,
    WrongUsageError,
    listen,
    show_messages,
)
from groundglass.errors import GroundglassError, missing_extra

app = typer.Typer(
    name="groundglass",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # otherwise rich reads defaults in brackets as styles and omits them
    context_settings={"help_option_names": ["-h", "--help"]},
    help="COVID-19 detection in chest CT. Research use only; not a medical device.",
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    pretty_exceptions_enable=False,
)
for module in (predict, train, evaluate, compare, audit, segment, serve, pacs):
    module.register(app)
app.add_typer(data.app, name="data")
app.add_typer(report.app, name="report")


@app.callback(invoke_without_command=True)
def _start(
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    licences: Annotated[
        bool,
        typer.Option("--licences", help="Print the licences of the code and of the shipped bundles' data."),
    ] = False,
) -> None:
    show_messages(verbose=verbose, quiet=quiet)
    if not version and not licences:
        return
    typer.echo(f"groundglass {__version__}")
    if licences:
        from groundglass.bundle.store import shipped_training

        typer.echo("Code: Apache-2.0")
        for name, training in shipped_training().items():
            typer.echo(f"\nBundle {name}, trained on:")
            for dataset, licence, commercial in training.licences():
                typer.echo(f"  {dataset}: {licence}; commercial use: {commercial}")
            typer.echo(
                training.terms() or "The licences of these data allow commercial use with attribution."
            )
    raise typer.Exit


def main() -> None:
    """Run the command; a user's mistake is printed as one line, and so is each warning."""
    listen()
    try:
        app()
    except GroundglassError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(WRONG_USAGE if isinstance(error, WrongUsageError) else FAILED)
    except ModuleNotFoundError as error:
        extra = missing_extra(error)
        if extra is None:
            raise
        typer.echo(f"error: {extra}", err=True)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(STOPPED)
    except BrokenPipeError:
        sys.exit(FAILED)
    finally:
        gc.freeze()  # otherwise the last collection scans everything that libraries loaded: half a second
