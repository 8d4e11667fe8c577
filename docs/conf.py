"""The documentation site: the pages of this folder, and a reference that is made from the program itself."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import click
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

import groundglass
from groundglass.cli.app import app as program
from groundglass.node.conformance import statement

ROOT = Path(__file__).parents[1]
project, author = "Groundglass", "The Groundglass authors"
version = release = groundglass.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "conf.py", "notebooks/*/**"]  # the last: what notebooks write
nb_execution_mode = "off"  # `make docs` runs the notebooks first, by nbmake
nb_merge_streams = True
nb_output_stderr = "remove"
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "logo": {"text": "Groundglass"},
    "navbar_center": [],
    "show_prev_next": False,
    "footer_start": ["research"],
    "footer_end": [],
}
html_sidebars = {"index": [], "**": ["globaltoc.html"]}
templates_path = ["_templates"]
html_show_sourcelink = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings state types with shapes and units
napoleon_google_docstring = False
suppress_warnings = ["myst.header"]


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command with all those below it."""
    yield name, command
    for below, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {below}")


def command_reference() -> str:
    """What ``--help`` of each command says, as Markdown."""
    lines = ["# Every command with its options", ""]
    for name, command in commands(typer.main.get_command(program), "groundglass"):
        context = click.Context(command, info_name=name)
        usage = " ".join(command.collect_usage_pieces(context))
        lines += [f"## `{name}`", "", *(command.help or "").replace("\b", "").splitlines(), ""]
        lines += ["```text", f"{name} {usage}", "```", ""]
        for parameter in command.params:
            if shown := parameter.get_help_record(context):
                lines += [f"- `{shown[0]}`: {shown[1]}"]
        lines += ["", *(command.epilog or "").replace("\b", "").splitlines(), ""]
    return "\n".join(lines)


def installed_by(wanted: Iterable[str]) -> set[str]:
    """The distributions that pip installs for these requirements, with what those require in turn."""
    found: set[tuple[str, str]] = set()
    waiting = [(one, "") for one in map(Requirement, wanted)]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for of_it in {"", *requirement.extras} - {known for one, known in found if one == name}:
            found.add((name, of_it))
            waiting += [(Requirement(one), of_it) for one in metadata.requires(name) or []]
    return {name for name, _ in found}


def licence(name: str) -> str:
    """The licence as the distribution's metadata state it."""
    facts = metadata.metadata(name)
    classes = [
        one.rpartition(" :: ")[2] for one in facts.get_all("Classifier", []) if one.startswith("License")
    ]
    stated = (facts.get("License-Expression"), ", ".join(classes), facts.get("License"))
    return next((one.strip().splitlines()[0] for one in stated if one and one.strip()), "see its files")


def licence_list() -> str:
    """The licences of all dependencies as a table; raises ExtensionError if the plain install needs the GPL."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    by: dict[str, str] = {}
    for extra, wanted in extras.items():
        for name in installed_by(one for one in wanted if not one.startswith("groundglass[")):
            by.setdefault(name, extra)
    order = sorted(by, key=lambda name: (list(extras).index(by[name]), name))
    rows = [(name, metadata.version(name), licence(name), by[name]) for name in order]
    gpl = [name for name, _, terms, extra in rows if not extra and re.search(r"(?<!L)GPL|GNU General", terms)]
    if gpl:
        raise ExtensionError(f"the plain install needs packages under the GPL: {', '.join(gpl)}")
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([LICENCES, "| package | version | licence | extra |", "|---|---|---|---|", *table, ""])


CONFORMANCE = """# DICOM conformance statement

`groundglass pacs conformance` prints this statement about [the PACS node](../pacs.md).

"""
LICENCES = """# Licences of the dependencies

What each package states in its metadata, for the versions that this site was built with. Packages without an
extra are part of every install; none of them is under the GPL, or this page could not be built. Wheels may
contain libraries under further licences; see their files. For the data that the shipped networks were trained on:
`groundglass --version --licences`.
"""


def write_reference(app: Sphinx) -> None:
    """Write the pages that are made from the program."""
    pages = {"cli": command_reference(), "licences": licence_list(), "conformance": CONFORMANCE + statement()}
    for name, text in pages.items():
        page = Path(app.srcdir, "reference", f"{name}.md")
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def join_streams(_: Sphinx, name: str, source: list[str]) -> None:
    """Join the pieces of 100 bytes in which a notebook gets what a command prints."""
    if not name.startswith("notebooks/"):
        return
    book = json.loads(source[0])
    for cell in book["cells"]:
        joined: dict[str, dict] = {}
        for number, output in enumerate(cell.get("outputs", [])):
            stream = output.get("name", str(number))
            if stream in joined:
                joined[stream]["text"] += output["text"]
            else:
                joined[stream] = output
        if "outputs" in cell:
            cell["outputs"] = list(joined.values())
    source[0] = json.dumps(book)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", join_streams)
    app.connect("builder-inited", write_reference)
