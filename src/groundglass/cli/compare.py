"""The command ``groundglass compare``: thin, like all commands."""

from pathlib import Path
from typing import Annotated

import typer

from groundglass.cli.output import say, table

PRINTED_COLUMNS = ("System", "AUC", "AUC by member", "AUC against the best")
"""What fits a terminal of 80 columns, where more columns would cut numbers off; the page has all."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog="Examples:  groundglass compare recipes/saopaulo-cnn.yaml recipes/keras-cnn.yaml --data covid-ct   "
        "|   groundglass compare recipes/*-cnn.yaml --data my.csv --split grouped --seeds 5 --external sarscov2-ct"
    )(compare)


def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECIPE|RUN", help="Recipes, which are trained, and folders of finished runs."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the page, the tables, the runs and their answers."),
    ] = Path("comparison"),
    data: Annotated[
        str | None,
        typer.Option(help="Dataset for all: a name, a manifest CSV or a folder [that of the recipes]."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="official, grouped, blocks or random [the dataset's own].")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Train each recipe so many times, with seeds 0, 1, ...")
    ] = 3,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the split, one for all.")] = 0,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Train once for each of so many folds; one test part for all.")
    ] = None,
    external: Annotated[
        list[str] | None, typer.Option(help="Compare on this dataset of another source too; may be repeated.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value of every recipe: key=value.")
    ] = None,
) -> None:
    """Train several systems under one protocol and say which are better, and which cannot be told apart.

    Trained runs are kept below the output folder and not trained again; a stopped comparison goes on where it was.
    """
    from groundglass.commands.compare import compare_systems
    from groundglass.commands.system_runs import make_protocol
    from groundglass.evaluate.comparison_report import comparison_table, headline

    changes = tuple(change or ())
    protocol = make_protocol(
        systems, data, split, split_seed=split_seed, seeds=tuple(range(seeds)), folds=folds, changes=changes
    )
    outcome = compare_systems(systems, protocol, output, external=external or (), tell=say)
    for judged in outcome.judged:
        header, rows = comparison_table(judged.comparison)
        shown = [header.index(column) for column in PRINTED_COLUMNS]
        cells = [tuple(row[place] for place in shown) for row in rows]
        table(
            f"{judged.name} ({judged.comparison.count} slices), positive class covid", PRINTED_COLUMNS, cells
        )
        for note in judged.comparison.notes:
            say(f"note: {note}")
    typer.echo(headline(outcome.judged[0].comparison))
    typer.echo(f"Page: {output / 'comparison.html'}")
