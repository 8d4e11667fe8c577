"""The commands ``groundglass segment`` and ``groundglass sheet``: thin, like all commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass.cli.output import PRINTED, end, say

if TYPE_CHECKING:
    from groundglass.segment.shares import ShareRow

BundleOption = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        "-b",
        help="The segmenter: a shipped bundle's name, a bundle (folder or zip), or a run's folder.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(
        epilog="Examples:  groundglass segment slice.png -o masks   |   "
        "groundglass segment scans/ 'more/*.jpg' -o masks --no-overlays"
    )(segment)
    app.command(
        epilog="Examples:  groundglass sheet covid-ct -o look   |   "
        "groundglass sheet scans/ -o look -b runs/lungs --count 30 --seed 1"
    )(sheet)


def segment(
    paths: Annotated[
        list[str], typer.Argument(help="Slices: pictures or DICOM files, folders, or quoted patterns.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the masks, shares.csv and report.html.")
    ],
    bundle: BundleOption = None,
    overlays: Annotated[bool, typer.Option(help="Draw the masks over each slice.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the areas and shares as JSON.")] = False,
) -> None:
    """Find the lungs and their lesions on slices: masks, and the share of each lung that is diseased.

    Writes NAME_lungs.png (including lesions) and NAME_lesions.png with values 0 and 255 at the size of the slice,
    and shares.csv. The masks of a picture that is not a chest CT are empty. Right is the patient's right, which is
    on the left of the picture.
    """
    from groundglass.commands.segment import segment as run
    from groundglass.scan.find import find_scans
    from groundglass.segment.segmenter import Segmenter

    result = run(find_scans(paths), output, segmenter=Segmenter.load(bundle), overlays=overlays)
    if as_json:
        typer.echo(json.dumps(result.document, indent=2, ensure_ascii=False))
    else:
        for row in result.rows[:PRINTED]:
            typer.echo(_line(row))
        if len(result.rows) > PRINTED:
            typer.echo(f"... and {len(result.rows) - PRINTED} more in {output / 'shares.csv'}")
        typer.echo(f"Masks, shares.csv and report.html: {output}")
        say("Research use only; not a medical device.")
    end(result.failures, any_read=bool(result.rows))


def sheet(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DATASET|PATH", help="Datasets, manifest CSVs, folders, files, or quoted patterns."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for sheet.png and sheet.csv.")],
    bundle: BundleOption = None,
    count: Annotated[int, typer.Option(min=1, help="Number of random slices.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same slices.")] = 0,
    turned: Annotated[
        float, typer.Option(min=0, max=1, help="Share of slices to turn upside down or mirror first.")
    ] = 0.34,
) -> None:
    """Put random slices with their masks on one sheet, to judge a segmenter by eye.

    sheet.csv has the figures and an empty column for your verdicts. The slices of the datasets are for your own
    viewing only: do not publish the sheet.
    """
    from groundglass.commands.sheet import sheet as run
    from groundglass.segment.segmenter import Segmenter

    segmenter = Segmenter.load(bundle)
    made = run(sources, output, segmenter=segmenter, count=count, seed=seed, turned=turned)
    typer.echo(f"Sheet: {made.picture}\nVerdicts go into: {made.picture.with_suffix('.csv')}")
    say("For your own use only: do not publish the sheet.")
    end(made.failures, any_read=True)


def _line(row: "ShareRow") -> str:
    from groundglass.commands.segment import percent
    from groundglass.labels import NOT_A_CHEST_CT

    if row.problem:
        return f"{NOT_A_CHEST_CT}  {row.path}: {row.problem}"
    both, right, left = (
        percent(area.lesion_share) for area in (row.shares.both, row.shares.right, row.shares.left)
    )
    return f"lesions {both:>6}  right {right:>6}  left {left:>6}  {row.path}"
