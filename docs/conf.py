"""The documentation site: the pages of this folder, and a reference that is made from the program itself."""

from collections.abc import Iterator
from pathlib import Path

import click
import typer
from sphinx.application import Sphinx

import groundglass
from groundglass.cli.app import app as program

project, author = "Groundglass", "The Groundglass authors"
version = release = groundglass.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "conf.py"]
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


def write_reference(app: Sphinx) -> None:
    """Write the page that the reference includes."""
    page = Path(app.srcdir, "reference", "cli.md")
    text = command_reference()
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_reference)
