"""The command ``groundglass compare``."""

from pathlib import Path
from typing import Annotated

import typer

from groundglass.cli.options import Data, Set, SplitOption, command, output
from groundglass.cli.output import say, table

PRINTED_COLUMNS = ("System", "AUC", "AUC by member", "AUC against the best")
"""The columns that fit a terminal of 80 characters without cutting off numbers; the page has all of them."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        "compare recipes/saopaulo-cnn.yaml recipes/keras-cnn.yaml --data covid-ct",
        "compare recipes/*-cnn.yaml --data my.csv --split grouped --seeds 5 --external sarscov2-ct",
    )(compare)


def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(metavar="RECIPE|RUN", help="Recipes to train, and folders of finished runs."),
    ],
    data: Data = None,
    split: SplitOption = None,
    output: Annotated[
        Path, output("Folder for the page, the tables, the runs and their predictions.")
    ] = Path("comparison"),
    seeds: Annotated[
        int, typer.Option(min=1, help="Train each recipe this many times, with seeds 0, 1, ...")
    ] = 3,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the split, the same for all systems.")] = 0,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Train once for each of this many folds, with the same test set."),
    ] = None,
    external: Annotated[
        list[str] | None,
        typer.Option(help="Also compare on this dataset from another source; may be repeated."),
    ] = None,
    change: Set = None,
) -> None:
    """Train several systems under one protocol and report which are better and which are indistinguishable.

    Finished runs are kept in the output folder and are not trained again, so a stopped comparison resumes.
    """
    from groundglass.commands.compare import compare_systems
    from groundglass.commands.system_runs import make_protocol
    from groundglass.evaluation.comparison_report import (
        CLASSES_HEADER,
        classes_table,
        comparison_table,
        headline,
    )

    changes = tuple(change or ())
    protocol = make_protocol(
        systems, data, split, split_seed=split_seed, seeds=tuple(range(seeds)), folds=folds, changes=changes
    )
    outcome = compare_systems(systems, protocol, output, external=external or (), tell=say)
    for judged in outcome.judged:
        for comparison in judged.comparisons:
            header, rows = comparison_table(comparison)
            shown = [header.index(column) for column in PRINTED_COLUMNS]
            cells = [tuple(row[place] for place in shown) for row in rows]
            counted = f"{comparison.count} {comparison.unit}s"
            table(f"{judged.name} ({counted}), positive class covid", PRINTED_COLUMNS, cells)
            for note in comparison.notes:
                say(f"note: {note}")
        if of_classes := classes_table(judged.systems):
            table(f"{judged.name}, all classes together", CLASSES_HEADER, of_classes)
        if isinstance(judged.patients, str):
            say(f"note: patients are not compared: {judged.patients}")
    typer.echo(headline(outcome.judged[0].comparison))
    typer.echo(f"Page: {output / 'comparison.html'}")
