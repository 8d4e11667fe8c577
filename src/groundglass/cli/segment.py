"""The commands ``groundglass segment`` and ``groundglass sheet``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from groundglass.cli.options import SCANS, Json, Seed, Segmenter, Workers, command, divided, output
from groundglass.cli.output import PRINTED, end, give_json, say

if TYPE_CHECKING:
    from groundglass.segment.shares import ShareRow


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, "segment slice.png -o masks", "segment scans/ 'more/*.jpg' -o masks --no-overlays")(segment)
    command(app, "sheet covid-ct -o look", "sheet scans/ -o look -b runs/lungs --count 30 --seed 1")(sheet)


def segment(
    paths: Annotated[list[str], typer.Argument(help=SCANS)],
    output: Annotated[Path, output("Folder for the masks, tables and report.html.")],
    bundle: Segmenter = None,
    overlays: Annotated[bool, typer.Option(help="Draw the masks over each slice.")] = True,
    workers: Workers = None,
    as_json: Json = None,
) -> None:
    """Find the lungs and their lesions: masks, and the diseased share of each lung.

    For a single slice, writes NAME_lungs.png (including lesions) and NAME_lesions.png with values 0 and 255
    at the size of the slice, and a row of shares.csv. The masks of a picture that is not a chest CT are
    empty. For a volume (DICOM series, NIfTI), writes a folder with lungs.nii.gz (1 right, 2 left),
    lesions.nii.gz and montage.png, and a row of volumes.csv in ml, by lung and by thirds of each lung. If the
    segmenter distinguishes ground glass (1) from consolidation (2), so do the tables, NAME_lesion_types.png
    (127, 254) and lesions.nii.gz. Right is the patient's right, on the left of the picture.
    """
    from groundglass.commands.segment import segment_paths
    from groundglass.segment.segmenter import Segmenter

    with divided(workers) as divide:
        result = segment_paths(paths, output, segmenter=divide(Segmenter.load(bundle)), overlays=overlays)
    if give_json(result.document, as_json):
        lines = [*map(_volume_line, result.volumes), *map(_line, result.rows)]
        for line in lines[:PRINTED]:
            typer.echo(line)
        if len(lines) > PRINTED:
            typer.echo(f"... and {len(lines) - PRINTED} more in the tables in {output}")
        typer.echo(f"Masks, {', '.join(result.tables)}: {output}")
        say("Research use only; not a medical device.")
    end(result.failures, any_read=bool(result.rows or result.volumes))


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
    """Put random slices with their masks on one sheet, to assess a segmenter visually.

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
    from groundglass.labels import NOT_A_CHEST_CT
    from groundglass.segment.shares import percent, types_in_words

    if row.problem:
        return f"{NOT_A_CHEST_CT}  {row.path}: {row.problem}"
    both, right, left = (
        percent(area.lesion_share) for area in (row.shares.both, row.shares.right, row.shares.left)
    )
    types = types_in_words(row.shares.both.type_shares)
    return f"lesions {both:>6}  right {right:>6}  left {left:>6}  {types}{'  ' if types else ''}{row.path}"


def _volume_line(row: dict[str, Any]) -> str:
    from groundglass.segment.shares import TYPE_COLUMNS, percent, types_in_words

    both, right, left = (percent(row[f"{side}_lesion_share"]) for side in ("both", "right", "left"))
    types = types_in_words({name: row[f"both_{name}"] for name in TYPE_COLUMNS if f"both_{name}" in row})
    lungs, lesions = row["both_lung_ml"], row["both_lesion_ml"]
    ml = "" if lungs is None else f" ({lesions:.0f} of {lungs:.0f} ml)"
    return f"lesions {both:>6}{ml}  right {right:>6}  left {left:>6}  {types}{'  ' if types else ''}{row['source']}"
