"""The commands ``groundglass segment`` and ``groundglass sheet``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass.cli.options import Json, Seed, Segmenter, command, output
from groundglass.cli.output import PRINTED, end, give_json, say

if TYPE_CHECKING:
    from groundglass.segment.shares import ShareRow


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, "segment slice.png -o masks", "segment scans/ 'more/*.jpg' -o masks --no-overlays")(segment)
    command(app, "sheet covid-ct -o look", "sheet scans/ -o look -b runs/lungs --count 30 --seed 1")(sheet)


def segment(
    paths: Annotated[
        list[str], typer.Argument(help="Slices: pictures or DICOM files, folders, or quoted patterns.")
    ],
    output: Annotated[Path, output("Folder for the masks, shares.csv and report.html.")],
    bundle: Segmenter = None,
    overlays: Annotated[bool, typer.Option(help="Draw the masks over each slice.")] = True,
    as_json: Json = None,
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
    if give_json(result.document, as_json):
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
    output: Annotated[Path, output("Folder for sheet.png and sheet.csv.")],
    bundle: Segmenter = None,
    count: Annotated[int, typer.Option(min=1, help="Number of random slices.")] = 60,
    seed: Seed = 0,
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
