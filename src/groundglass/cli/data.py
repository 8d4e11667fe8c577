"""The commands ``groundglass data ...``; heavy imports are inside the functions, so that commands start quickly."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from groundglass.cli.options import Json, Seed, SplitOption, command, output
from groundglass.cli.output import give_json, say, wrong_usage
from groundglass.errors import GroundglassError

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import ProgressColumn

    from groundglass.data.dataset import Dataset
    from groundglass.data.datasets import FileProgress

app = typer.Typer(
    help="Find, download, import and split datasets, or make synthetic ones.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Turn(StrEnum):
    """How slices are turned when a dataset is converted."""

    none = "none"
    left = "left"
    right = "right"
    transpose = "transpose"


class Form(StrEnum):
    """How a phantom volume is written."""

    classic = "classic"
    enhanced = "enhanced"
    legacy = "legacy-enhanced"
    nifti = "nifti"


class Syntax(StrEnum):
    """The transfer syntaxes of groundglass.phantom.dicom_syntax, which is slow to import."""

    implicit_little = "implicit-little"
    explicit_little = "explicit-little"
    explicit_big = "explicit-big"
    deflated = "deflated"
    jpeg_lossless = "jpeg-lossless"
    jpeg_lossless_any = "jpeg-lossless-any"
    jpeg_ls = "jpeg-ls"
    jpeg_ls_near = "jpeg-ls-near"
    jpeg_2000 = "jpeg-2000"
    jpeg_2000_lossy = "jpeg-2000-lossy"
    htj2k = "htj2k"
    rle = "rle"


class Disease(StrEnum):
    """The diseases that the phantoms of a set show."""

    covid = "covid"
    other = "other"
    none = "none"
    mixed = "mixed"


Manifest = Annotated[Path, output("The manifest CSV to write.")]
PhantomFolder = Annotated[Path, output("The folder to write.")]
PhantomCount = Annotated[int, typer.Option(min=1, help="Number of patients.")]
PhantomDisease = Annotated[Disease, typer.Option(help="Their disease.")]
PhantomSlices = Annotated[int, typer.Option(min=1, help="Slices per patient.")]


@command(app, "data list", "data list --json", name="list")
def list_datasets(as_json: Json = None) -> None:
    """List the known datasets and whether they are available locally."""
    from rich.table import Table

    from groundglass.data.registry import DATASETS

    if not give_json([{**_facts(row), "where": _where(row)} for row in DATASETS.values()], as_json):
        return
    table = Table("name", "title", "slices", "licence", "where")
    for column in (table.columns[0], table.columns[4]):
        column.no_wrap = True
    for row in DATASETS.values():
        table.add_row(row.name, row.title, _counts(row), row.licence, _where(row))
    _print(table)


@command(app, "data info covid-ct")
def info(
    name: Annotated[str, typer.Argument(help="A dataset's name; `groundglass data list` shows them.")],
    as_json: Json = None,
) -> None:
    """Show everything known about a dataset: licence, citation, splits, known problems."""
    from rich.table import Table

    from groundglass.data.datasets import load_dataset
    from groundglass.data.folders import locate
    from groundglass.data.manifest import summarise
    from groundglass.data.registry import find

    dataset = find(name)
    summary = summarise(load_dataset(name)) if locate(name) else None
    parts = [] if summary is None else summary.to_dict("records")
    if not give_json({**_facts(dataset), "where": _where(dataset), "parts": parts}, as_json):
        return
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    for fact, value in _described(dataset):
        table.add_row(fact, value)
    _print(table)
    if summary is not None:
        _print_summary(summary)


@command(app, "data get covid-ct")
def get(
    name: Annotated[str, typer.Argument(help="A dataset's name; `groundglass data list` shows them.")],
) -> None:
    """Find or download a dataset, verify its files and write its manifest.

    Files in the folder GROUNDGLASS_MIRROR are used in place.
    Downloads and manifests go to the folder GROUNDGLASS_DATA,
    by default a folder in your user data folder.
    """
    from rich.progress import DownloadColumn

    from groundglass.data import datasets
    from groundglass.data.manifest import read_manifest, summarise

    with _progress(DownloadColumn()) as report:
        path = datasets.get(name, progress=report)
    _print_summary(summarise(read_manifest(path)))
    typer.echo(f"manifest: {path}")


@command(app, "data import my-scans --source 'hospital A' -o my-scans.csv", name="import")
def import_(
    path: Annotated[
        Path, typer.Argument(help="A folder with one subfolder per class, or a CSV with path and label.")
    ],
    output: Manifest = Path("manifest.csv"),
    source: Annotated[str, typer.Option(help="Where the scans come from [the folder's name].")] = "",
    patients_from_folders: Annotated[
        bool, typer.Option("--patients-from-folders", help="Each subfolder of a class folder is a patient.")
    ] = False,
) -> None:
    """Make a manifest of your own labelled scans; the files stay where they are.

    Folder names that mean COVID-19 (covid, CT_COVID, positive) or its absence (non-covid, negative) are
    recognised; any other name becomes a separate class. Folders train, val and test above them set the split.
    """
    from groundglass.data.manifest import import_path, summarise, write_manifest

    if path.exists() and output.exists() and output.samefile(path):
        raise GroundglassError(f"{output}: would overwrite the imported file; choose another one with -o")
    manifest = import_path(path, source=source, patients_from_folders=patients_from_folders)
    write_manifest(manifest, output)
    _print_summary(summarise(manifest))
    if patients_from_folders:
        say("The manifest now has the names of the patient folders as ids: use pseudonyms.")
    typer.echo(f"manifest: {output}")


@command(app, "data split covid-ct --split grouped --folds 5 --fold 0 -o fold0.csv")
def split(
    dataset: Annotated[str, typer.Argument(help="A dataset's name, a manifest CSV or a folder.")],
    output: Manifest,
    scheme: SplitOption = None,
    seed: Seed = 0,
    fractions: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Shares of the training, validation and test sets, which add up to 1."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Divide everything but the test set into this many folds.", min=2)
    ] = None,
    fold: Annotated[int, typer.Option(help="The fold to use for validation, counted from 0.", min=0)] = 0,
) -> None:
    """Divide a dataset into training, validation and test sets.

    official: as published. grouped: keeps patients together.
    blocks: contiguous numbers, for slices with numbers but no patients.
    random: slice by slice, which leaks.
    """
    from groundglass.data import splits
    from groundglass.data.datasets import load_dataset
    from groundglass.data.manifest import summarise, write_manifest
    from groundglass.data.registry import DATASETS

    wrong_usage((bool(fold) and folds is None, "--fold needs --folds, the number of folds"))
    known = DATASETS.get(dataset)
    scans = load_dataset(dataset)
    chosen = scheme.value if scheme else known.default_split if known else splits.best_split(scans)
    manifest = splits.split(scans, chosen, seed=seed, fractions=fractions, folds=folds, fold=fold)
    write_manifest(manifest, output)
    _print_summary(summarise(manifest))
    typer.echo(f"{chosen} split, manifest: {output}")


@command(app, "data convert iq-othnccd downloads/IQ-OTHNCCD")
def convert(
    name: Annotated[str, typer.Argument(help="A dataset's name; `groundglass data list` shows them.")],
    published: Annotated[Path, typer.Argument(help="The folder with the unpacked files, as published.")],
    turn: Annotated[
        Turn, typer.Option(help="How to turn medseg's slices upright, with the patient's back at the bottom.")
    ] = Turn.none,
) -> None:
    """Convert a dataset that you downloaded by hand to the form that Groundglass reads.

    It is written to the folder GROUNDGLASS_DATA, by default a folder in your user data folder, and verified.
    Inspect a slice afterwards.
    """
    from groundglass.data import datasets
    from groundglass.data.convert import convert as convert_dataset
    from groundglass.data.folders import data_folder
    from groundglass.data.registry import find

    folder = data_folder() / find(name).folder
    count = convert_dataset(name, published, folder, turn=turn.value)
    datasets.verify(find(name), folder)
    typer.echo(f"{name}: {count} slices, verified: {folder}")


@command(app, "data phantom -o phantoms --count 6 --disease mixed")
def phantom(
    output: PhantomFolder,
    count: PhantomCount = 3,
    disease: PhantomDisease = Disease.mixed,
    seed: Seed = 0,
    slices: PhantomSlices = 32,
) -> None:
    """Write synthetic chest CT slices and their manifest, for tests and trials, not to measure accuracy."""
    import pandas as pd
    from rich.progress import MofNCompleteColumn

    from groundglass.data.manifest import summarise, write_manifest
    from groundglass.phantom import write_phantom_set

    with _progress(MofNCompleteColumn()) as report:
        rows = write_phantom_set(
            output,
            count=count,
            disease=disease.value,
            seed=seed,
            shape=(slices, 256, 256),
            progress=partial(report, "phantoms"),
        )
    manifest = pd.DataFrame(rows)
    write_manifest(manifest, output / "manifest.csv")
    _print_summary(summarise(manifest))
    typer.echo(f"synthetic phantoms, manifest: {output / 'manifest.csv'}")


@command(app, "data volumes -o phantoms --syntax jpeg-lossless")
def volumes(
    output: PhantomFolder,
    count: PhantomCount = 3,
    disease: PhantomDisease = Disease.mixed,
    seed: Seed = 0,
    slices: PhantomSlices = 40,
    form: Annotated[Form, typer.Option(help="One of three kinds of DICOM, or NIfTI.")] = Form.classic,
    syntax: Annotated[Syntax, typer.Option(help="The DICOM transfer syntax.")] = Syntax.explicit_little,
) -> None:
    """Write synthetic chest CT as DICOM series or NIfTI, with exact masks and volumes."""
    from rich.progress import MofNCompleteColumn

    from groundglass.phantom.volumes import write_phantom_volumes

    with _progress(MofNCompleteColumn()) as report:
        written = write_phantom_volumes(
            output,
            count=count,
            disease=disease.value,
            seed=seed,
            shape=(slices, 256, 256),
            form=form.value,
            syntax=syntax.value,
            progress=partial(report, "phantoms"),
        )
    typer.echo(
        f"{len(written)} synthetic volumes: {output / 'scans'}; their masks and volumes: {output / 'truth'}"
    )


def _facts(dataset: "Dataset") -> dict[str, Any]:
    from groundglass.data.folders import steps_by_hand

    hidden = {"layout", "needs", "hashes", "numbered", "remote", "download_from", "folder"}
    facts = {key: value for key, value in asdict(dataset).items() if key not in hidden}
    return {**facts, "steps": steps_by_hand(dataset)}


def _described(dataset: "Dataset") -> list[tuple[str, str]]:
    """The facts as text for people, each with its name."""
    from groundglass.data.folders import locate, steps_by_hand

    by_hand = "\n".join(steps_by_hand(dataset))
    facts = [
        ("name", dataset.name),
        ("title", dataset.title),
        ("what it is", dataset.description),
        ("slices", _counts(dataset)),
        ("licence", dataset.licence),
        ("citation", dataset.citation),
        ("address", dataset.address),
        ("verified by", dataset.verification),
        ("patients", dataset.patients),
        ("default split", _default_split(dataset)),
        ("size", "unknown" if dataset.size_bytes is None else f"{dataset.size_bytes / 1e6:.0f} MB"),
        (
            "known problems",
            "\n".join(f"- {problem}" for problem in dataset.known_problems) or "none known",
        ),
        ("where", _where(dataset)),
    ]
    if locate(dataset.name) is None:
        facts.append(("how to get it", f"groundglass data get {dataset.name}" if dataset.remote else by_hand))
    return facts


def _where(dataset: "Dataset") -> str:
    from groundglass.data.folders import locate, mirror_folder

    folder, mirror = locate(dataset.name), mirror_folder()
    if folder is None:
        return "not here"
    return "mirror" if mirror and folder.is_relative_to(mirror) else "downloaded"


def _counts(dataset: "Dataset") -> str:
    return "\n".join(f"{'?' if count is None else count} {label}" for label, count in dataset.classes.items())


def _default_split(dataset: "Dataset") -> str:
    if dataset.default_split == "official":
        return "official"
    shares = ", ".join(f"{share:.2f}" for share in dataset.fractions)
    return f"{dataset.default_split} (training, validation, test {shares})"


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console().print(renderable)


def _print_summary(summary: "pd.DataFrame") -> None:
    from rich.table import Table

    table = Table("part", "class", "slices", "patients")
    for column in table.columns[2:]:
        column.justify = "right"
    for part, label, slices, patients in summary.itertuples(index=False):
        table.add_row(part or "-", label, str(slices), str(patients) if patients else "unknown")
    _print(table)


@contextmanager
def _progress(amount: "ProgressColumn") -> Iterator["FileProgress"]:
    """A progress bar on standard error for each reported name; the column shows the amount done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from groundglass.progress import quiet

    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet()) as bars:
        tasks: dict[str, TaskID] = {}

        def report(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield report
