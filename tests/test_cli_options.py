"""What all commands have in common, and the document that lists their options."""

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from enum import StrEnum
from inspect import signature
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from groundglass.cli import output
from groundglass.cli.app import app
from groundglass.cli.data import Syntax
from groundglass.cli.options import Part, Split, command
from groundglass.data.dataset import Scheme
from groundglass.data.manifest import PARTS
from groundglass.phantom.dicom_syntax import SYNTAXES

DOC = Path(__file__).parents[1] / "docs" / "commands.md"


def commands(group: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    """The commands with their names, such as ``data list``."""
    group = typer.main.get_command(app) if group is None else group
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{before}{name} ")
        else:
            yield before + name, one


COMMANDS = dict(commands())


WORDS = {str: "TEXT", Path: "PATH", int: "N", float: "X"}


def form(annotation: Any) -> str:
    """The value of an option, from the annotation of its parameter; nothing if it is a flag."""
    kind, info = get_args(annotation)
    (kind,) = [one for one in get_args(kind) or (kind,) if one is not NoneType][:1]
    (kind,) = (get_args(kind) or (kind,))[:1]
    if info.metavar is not None:
        return f" {info.metavar}"
    if issubclass(kind, StrEnum):
        return " " + "|".join(kind)
    return "" if kind is bool else f" {WORDS[kind]}"


def options() -> dict[str, dict[str, str]]:
    """The form of each option, by command."""
    return {
        name: {
            "/".join([*sorted(one.opts, key=len), *one.secondary_opts]): form(
                signature(command.callback).parameters[one.name].annotation
            )
            for one in command.params
            if one.param_type_name == "option"
        }
        for name, command in COMMANDS.items()
    }


def reference() -> str:
    """The table of docs/commands.md."""
    lines = ["| command | arguments | options |", "|---|---|---|"]
    everywhere = {"-v/--verbose", "-q/--quiet"}
    for name, forms in options().items():
        arguments = [one for one in COMMANDS[name].params if one.param_type_name == "argument"]
        shown = " ".join(
            (one.metavar or one.name.upper()) + ("..." if one.nargs == -1 else "") for one in arguments
        )
        listed = ", ".join(f"`{option}{form}`" for option, form in forms.items() if option not in everywhere)
        cells = f"| `{name}` | {f'`{shown}`' if shown else '–'} | {listed or '–'} |"
        lines.append(cells[:2] + cells[2:-2].replace("|", "\\|").replace(" \\| ", " | ") + " |")
    return "\n".join(lines)


def test_the_document_lists_every_option() -> None:
    """To update the table, run python tests/test_cli_options.py, which prints it."""
    assert reference() in DOC.read_text("utf-8")


def test_the_document_lists_the_exit_codes() -> None:
    text = DOC.read_text("utf-8")
    for code, meaning in output.EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in text


def test_an_option_has_one_form_everywhere() -> None:
    found: dict[str, set[tuple[str, str]]] = {}
    for forms in options().values():
        for names, shown in forms.items():
            for name in names.split("/"):
                found.setdefault(name, set()).add((names, shown))
    assert {name: forms for name, forms in found.items() if len(forms) > 1} == {}
    assert found["--json"] == {("--json", " [FILE]")}
    assert found["-b"] == {("-b/--bundle", " TEXT")}
    assert not {"--on", "--scheme", "--dataset", "--out"} & set(found)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_and_choices(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "250"}).stdout
    assert f"groundglass {name}" in shown.partition("Examples:")[2]
    for one in COMMANDS[name].params:
        assert one.help, f"{name}: {one.name} has no help"
    for option, choices in (("--split", Split), ("--part", Part)):
        if option in shown:
            assert "|".join(choices) in shown


def test_the_choices_are_those_of_the_library() -> None:
    assert tuple(Split) == Scheme.__args__
    assert tuple(Part) == (*PARTS, "all")
    assert tuple(Syntax) == tuple(SYNTAXES)


@pytest.fixture
def toy() -> typer.Typer:
    """A program with two commands that return their arguments."""
    from groundglass.cli.options import Json

    made = typer.Typer()
    log = logging.getLogger("groundglass.toy")

    def show(paths: list[str], as_json: Json = None) -> None:
        if output.give_json({"paths": paths}, as_json):
            typer.echo("text")
        output.say("a note")
        log.info("a step")
        warnings.warn("with\ncare", stacklevel=1)

    def other() -> None:
        typer.echo("nothing")

    command(made, "show a.png")(show)
    command(made, "other")(other)
    return made


@pytest.mark.parametrize(
    ("words", "paths", "file"),
    [
        (["--json", "a.png"], ["a.png"], None),
        (["a.png", "--json"], ["a.png"], None),
        (["a.png", "--json", "-"], ["a.png"], None),
        (["a.png", "--json", "--verbose"], ["a.png"], None),
        (["--json", "out.json", "a.png"], ["a.png"], "out.json"),
        (["--json=out.txt", "a.png"], ["a.png"], "out.txt"),
    ],
)
def test_json_takes_a_file_or_none(
    words: list[str], paths: list[str], file: str | None, toy: typer.Typer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(toy, ["show", *words])
    assert done.exit_code == 0, done.output
    assert (done.stdout == "text\n") == (file is not None)
    text = Path(file).read_text() if file else done.stdout
    assert json.loads(text) == {"paths": paths}
    assert not Path("a.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ([file] if file else [])


@pytest.fixture
def _terminal() -> Iterator[None]:
    handler = output.listen()
    yield
    logging.getLogger().removeHandler(handler)
    output.show_messages(verbose=False, quiet=False)
    logging.getLogger("groundglass").setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], ["a note", "warning: with care"]),
        (["--verbose"], ["a note", "a step", "warning: with care"]),
        (["-q"], []),
    ],
)
def test_messages_are_plain_lines_on_standard_error(
    words: list[str], lines: list[str], toy: typer.Typer
) -> None:
    output.show_messages(verbose=False, quiet=False)
    done = CliRunner().invoke(toy, ["show", "a.png", *words])
    assert done.stdout == "text\n"
    assert done.stderr.splitlines() == lines


def test_a_library_has_no_handler_but_the_null_one() -> None:
    code = (
        "import logging, groundglass\n"
        "log = logging.getLogger('groundglass')\n"
        "print([type(handler).__name__ for handler in log.handlers], logging.getLogger().handlers)\n"
        "logging.getLogger('groundglass.scan.find').warning('said by the library')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['NullHandler'] []"
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["-q", "data", "split"], ["data", "split", "-q"], ["data", "split"]])
def test_quiet_is_given_before_or_after_the_command(
    words: list[str], class_folder: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "groundglass", *words, str(class_folder), "--split", "random", "-o", "s.csv"],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=dict(os.environ),
    )  # fmt: skip
    assert ("warning: a random split" in done.stderr) == ("-q" not in words)
    assert "random split, manifest: s.csv" in done.stdout


if __name__ == "__main__":
    print(reference())
