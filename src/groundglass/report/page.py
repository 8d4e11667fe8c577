"""Reports as HTML: each page is self-contained and loads nothing from elsewhere."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE, Facts, describe_input
from groundglass.data.registry import DATASETS
from groundglass.files import write_text
from groundglass.segment.overlay import PICTURE_SIDE
from groundglass.segment.stack import StackViewer


class Link(str):
    """A cell's text that links to ``address``, which is relative to the page."""

    address: str

    def __new__(cls, text: str, address: str) -> "Link":
        """Make the text with its address."""
        link = super().__new__(cls, text)
        link.address = address
        return link


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading, with a ``note`` below.

    ``prose`` means that the cells are sentences, which phones show one below the other. Readers can sort any other
    table with a header by clicking on a heading.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str = ""
    prose: bool = False

    @property
    def sortable(self) -> bool:
        """Whether readers can sort it."""
        figures = bool(self.header) and not self.prose and self.header[-1] != "meaning"
        return figures and len(self.rows) > 1


@dataclass(frozen=True)
class Chart:
    """Bars of non-negative numbers with a caption, drawn as SVG within the page."""

    caption: str
    bars: Sequence[tuple[str, float]]

    @property
    def most(self) -> float:
        """The longest bar, or 1 if all are 0."""
        return max(value for _, value in self.bars) or 1.0


@dataclass(frozen=True)
class Picture:
    """A figure as PNG, with a caption that screen readers also use; pages prefer its ``svg``."""

    caption: str
    png: bytes
    svg: bytes = b""


@dataclass(frozen=True)
class SliceCard:
    """A slice beside its heatmap or masks, with the answer.

    Attributes
    ----------
    name, verdict, answer, note
        Text below the pictures; ``answer`` adds the findings to the ``verdict``.
    images
        The slice, and the drawings on it.
    truth
        The label; "" if unknown.
    right
        Whether the verdict agrees with the label; None if they cannot be compared.
    unsure
        Whether the verdict is neither yes nor no.
    drawn
        Description of the drawings, for screen readers.
    """

    name: str
    verdict: str
    answer: str
    images: tuple[Image.Image, ...]
    truth: str = ""
    right: bool | None = None
    unsure: bool = False
    note: str = ""
    drawn: str = "heatmap over the slice"


@dataclass(frozen=True)
class Card:
    """A grade, why it is not better, and the items that it is based on, with a ``note`` below.

    ``grade`` is a letter from A to E, and ``meaning`` the same in words.
    """

    title: str
    grade: str
    meaning: str
    reasons: Sequence[str]
    rows: Sequence[tuple[str, str]]
    note: str = ""


@dataclass
class Report:
    """The content of a page, from top to bottom; parts without content are left out.

    ``headline`` is the result in one sentence, ``card`` states how far it can be trusted, and ``warnings``
    come first. A PDF has only the first table of ``facts``.
    """

    title: str
    headline: str
    card: Card | None = None
    warnings: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables_title: str = "Performance"
    figures_of_merit: list[Table] = field(default_factory=list)
    pictures_title: str = "Curves"
    pictures: list[Picture] = field(default_factory=list)
    slices_title: str = "Slices"
    slices_note: str = ""
    slices: list[SliceCard] = field(default_factory=list)
    stack: StackViewer | None = None
    facts: list[Table] = field(default_factory=list)


def write_report(report: Report, path: Path) -> None:
    """Write the page."""
    write_text(path, render("report.html.jinja", report))


def render(template: str, report: Report) -> str:
    """The HTML of a report, from one of this package's templates."""
    environment = Environment(
        loader=PackageLoader("groundglass.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(png=_png_address, svg=_svg_address, jpeg=_jpeg_address)
    page = environment.get_template(template)
    return page.render(report=report, version=__version__, research_use=RESEARCH_USE)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _png_address(png: bytes) -> str:
    return "data:image/png;base64," + _base64(png)


def _svg_address(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + _base64(svg)


def _jpeg_address(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + _base64(buffer.getvalue())


def made_by_rows(*bundles: Facts) -> list[tuple[str, str]]:
    """The time at which a report was made, and the versions of the program and its networks."""
    networks = [(one.kind.capitalize(), f"{one.name}, version {one.graph_sha256[:12]}") for one in bundles]
    return [("Made", f"{datetime.now():%Y-%m-%d %H:%M}"), ("Groundglass", __version__), *networks]


def bundle_table(facts: Facts) -> Table:
    """The detector or segmenter: its description, training data and choices."""
    training = facts.training
    identity = ("Graph (SHA-256)", facts.graph_sha256)
    rows = [("Bundle", facts.name), ("Description", facts.description.strip())]
    if not training.parts:  # a model that was not trained by Groundglass
        rows += [("Trained on", training.dataset or "not stated"), ("Input", describe_input(facts)), identity]
        return Table(f"The {facts.kind}", (), rows)
    parts = "; ".join(
        f"{name} {part.slices} slices ({part.positive} positive)" for name, part in training.parts.items()
    )
    rows += [
        ("Trained on", f"{training.title} ({training.dataset}), split {training.split}: {parts}"),
        ("Licence of that data", training.licence),
        ("Citation", training.citation),
        ("Data fingerprint", training.fingerprint),
        ("Seed", str(training.seed)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in training.versions.items())),
        identity,
        *[("Chosen", str(choice)) for choice in facts.chosen],
    ]
    return Table(f"The {facts.kind}", (), rows)


def dataset_table(name: str) -> Table | None:
    """The dataset, if it is in the registry."""
    if name not in DATASETS:
        return None
    dataset = DATASETS[name]
    rows = [
        ("Dataset", f"{dataset.title} ({dataset.name})"),
        ("Description", dataset.description),
        ("Licence", dataset.licence),
        ("Citation", dataset.citation),
        ("Patients", dataset.patients),
        *[("Known problem", problem) for problem in dataset.known_problems],
    ]
    return Table("The data", (), rows)
