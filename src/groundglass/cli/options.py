"""Shared by the commands: how they are added to the program, and common options."""

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from groundglass.cli.output import STDOUT, show_messages
from groundglass.errors import need_extra

if TYPE_CHECKING:
    from groundglass.node.config import DicomConfig, Peer

F = TypeVar("F", bound=Callable[..., None])


class Split(StrEnum):
    """The ways to divide a dataset into parts."""

    official = "official"
    grouped = "grouped"
    blocks = "blocks"
    random = "random"


class Part(StrEnum):
    """The parts of a dataset."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


def output(text: str) -> Any:
    """``--output`` with the text of its help, which differs between commands."""
    return typer.Option("--output", "-o", help=text)


Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also print each step.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only results and errors: no notes, warnings or progress.")
]
SCANS = (
    "Slices and volumes: files (PNG, JPEG, DICOM, NIfTI, NRRD, ZIP, DICOMDIR), folders, quoted patterns, or "
    "manifests (CSV with a column path)."
)
_A_BUNDLE = "a shipped bundle's name, a bundle (folder or zip), a run's folder, or an ONNX file"
Detector = Annotated[str | None, typer.Option("--bundle", "-b", help=f"The detector: {_A_BUNDLE}.")]
Segmenter = Annotated[str | None, typer.Option("--bundle", "-b", help=f"The segmenter: {_A_BUNDLE}.")]
AnyBundle = Annotated[
    str | None, typer.Option("--bundle", "-b", help=f"The detector or segmenter: {_A_BUNDLE}.")
]
LABELLED = "a dataset's name, a manifest CSV, or a folder with a subfolder per class"
Data = Annotated[str | None, typer.Option("--data", help=f"The labelled scans: {LABELLED}.")]
RequiredData = Annotated[str, typer.Option("--data", help=f"The labelled scans: {LABELLED}.")]
SplitOption = Annotated[
    Split | None,
    typer.Option(
        "--split",
        help="How to divide the data: as published, by patient, by contiguous numbers, or slice by slice, which "
        "leaks [the dataset's own way; otherwise the best that your data allow].",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a value of the recipe, with dotted keys; may be repeated."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed; the same seed gives the same result.")]
Coverage = Annotated[
    float,
    typer.Option(
        "--coverage", help="The share of each class that should get the correct verdict or 'uncertain'."
    ),
]
Record = Annotated[bool, typer.Option("--record", help="Record the result in the bundle and its model card.")]
RecordInto = Annotated[
    str | None,
    typer.Option(
        "--record-into",
        metavar="BUNDLE",
        help="Record the result in this bundle, which was trained in the same way but on all sources.",
    ),
]
Lungs = Annotated[
    bool,
    typer.Option(
        "--lungs/--no-lungs",
        help="Find lungs and lesions, to report the lesion share and to reject images that are not chest "
        "CT. Detectors that use only the lungs, such as the default, always do this.",
    ),
]


class Setting(StrEnum):
    """The settings of groundglass.detect.setting.CONTROLS."""

    differential = "differential"
    screening = "screening"


SettingOption = Annotated[
    Setting | None,
    typer.Option(
        "--setting",
        help="What COVID-19 must be distinguished from: other lung diseases (differential), or mostly healthy "
        "lungs (screening) [the detector's default, differential].",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Divide the work among this many processes [this process alone]."),
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="[FILE]",
        help="Print JSON instead of text; with FILE, print text and write the JSON there. FILE must end in .json.",
    ),
]


PEER = "The PACS: a peer named in serve.yaml, AETITLE@HOST:PORT, or the URL of a DICOMweb service."
Config = Annotated[
    Path | None, typer.Option("--config", help="The settings file, such as serve.yaml (docs/pacs.md).")
]


def peer_of(name: str, config: Path | None, title: str | None = None) -> "tuple[DicomConfig, Peer]":
    """This side's settings, with its AE title if one is given, and the peer of this name."""
    need_extra("pacs")
    from groundglass.node.config import DicomConfig
    from groundglass.serve.config import load_config

    settings = load_config(config).dicom or DicomConfig()
    if title is not None:
        settings = settings.model_copy(update={"ae_title": title})
    return settings, settings.peer(name)


@contextmanager
def divided(workers: int | None) -> Iterator[Callable[[Any], Any]]:
    """A function that distributes a network's files among this many processes; it has no effect without any."""
    if workers is None:
        yield lambda network: network
        return
    need_extra("scale")
    from groundglass.scale import protect

    protect()
    from groundglass.scale.files import divided as by_workers

    with by_workers(workers) as divide:
        yield divide


class Command(TyperCommand):
    """A command whose ``--json`` may have no value.

    The next argument is its file only if it ends in .json: in ``--json slice.png`` it is a scan, and must not be
    overwritten. ``--json=FILE`` takes any name.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Complete ``--json`` if no file follows."""
        before = args[: args.index("--")] if "--" in args else args
        files = [*before[1:], ""]
        for place, word in enumerate(before):
            if word == "--json" and not re.search(r"(^-|\.json)$", files[place]):
                args[place] = f"--json={STDOUT}"
        return super().parse_args(ctx, args)


def command(app: typer.Typer, *examples: str, name: str | None = None) -> Callable[[F], F]:
    """Add a function to ``app``, with ``--verbose`` and ``--quiet`` and with examples at the end of its help."""

    def add(function: F) -> F:
        @functools.wraps(function)
        def run(*, verbose: bool, quiet: bool, **options: Any) -> None:
            if verbose or quiet:  # otherwise the options before the command apply
                show_messages(verbose=verbose, quiet=quiet)
            function(**options)

        signature = inspect.signature(function)
        common = [
            inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
            for word, annotation in (("verbose", Verbose), ("quiet", Quiet))
        ]
        run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *common])  # type: ignore[attr-defined]
        shown = "\n\n".join(["Examples:", *(f"- `groundglass {example}`" for example in examples)])
        app.command(name, cls=Command, epilog=shown)(run)
        return function

    return add
