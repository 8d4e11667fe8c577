import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from groundglass.cli.app import app, main
from groundglass.commands.system_runs import Protocol
from groundglass.errors import GroundglassError

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def recipes(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two recipes, one with a name as long as most that come with the project."""
    other = tmp_path_factory.mktemp("recipes") / "other.yaml"
    text = recipe_file.read_text().replace("name: tiny", "name: baseline-resnet50")
    other.write_text(text.replace("[8, 8]", "[2]"))
    return [recipe_file, other]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared") / "out"


@pytest.fixture(scope="module")
def elsewhere(class_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(class_folder, tmp_path_factory.mktemp("data") / "elsewhere"))


@pytest.fixture(scope="module")
def done(recipes: list[Path], folder: Path, elsewhere: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        return run(
            *recipes, "--seeds", 1, "--set", "training.epochs=1", "--external", elsewhere, "-o", folder
        )


def test_help_says_what_can_be_compared() -> None:
    shown = CliRunner().invoke(app, ["compare", "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for text in ("RECIPE|RUN", "--data", "--split", "--seeds", "--folds", "--external", "--set", "Examples"):
        assert text in shown.stdout
    assert "compare" in CliRunner().invoke(app, ["--help"]).stdout


def test_a_comparison_prints_table_headline_and_page(done: Result, class_folder: Path, folder: Path) -> None:
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    titles = [line.strip() for line in lines if "positive class covid" in line]
    assert titles == [
        f"{class_folder.name} (8 slices), positive class covid",
        "elsewhere (48 slices), positive class covid",
    ]
    for name in ("tiny", "baseline-resnet50", "ensemble"):
        assert sum(line.startswith(f"│ {name} ") for line in lines) == 2
    assert lines[-2].startswith("Best by AUC: ")
    assert lines[-1] == f"Page: {folder / 'comparison.html'}"
    assert (folder / "comparison.html").is_file()


def test_the_table_fits_a_narrow_terminal_without_loss(done: Result, folder: Path) -> None:
    table = [line for line in done.stdout.splitlines() if line.startswith(("│", "┃"))]
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)
    words = " ".join(" ".join(table).replace("│", " ").split())
    for auc in pd.read_csv(folder / "comparison.csv")["roc_auc"]:
        assert f"{auc:.2f}" in words


def test_progress_is_reported_separately_from_the_result(done: Result) -> None:
    lines = done.stderr.splitlines()
    assert "tiny-seed0: trained" in lines
    assert any(line.startswith("baseline-resnet50-seed0  epoch 1/1") for line in lines)
    assert any(line.startswith("note: ") and "Trained only once" in line for line in lines)
    assert "epoch" not in done.stdout


def test_a_second_call_trains_nothing(done: Result, recipes: list[Path], folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*") if path.is_file()}
    again = run(*recipes, "--seeds", 1, "--set", "training.epochs=1", "-o", folder)
    assert again.exit_code == 0, again.exception
    assert again.stderr.count("was already trained") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def asked(
    monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[list[Path], Protocol, Path, list[str]]:
    """What a call requests, without running it."""
    got: list[tuple[list[Path], Protocol, Path, list[str]]] = []

    def note(
        items: list[Path], protocol: Protocol, folder: Path, *, external: list[str], tell: object
    ) -> None:
        got.append((items, protocol, folder, list(external)))
        raise GroundglassError("enough")

    monkeypatch.setattr("groundglass.commands.compare.compare_systems", note)
    assert isinstance(run(*arguments).exception, GroundglassError)
    return got[0]


def test_every_option_reaches_the_comparison(
    monkeypatch: pytest.MonkeyPatch, recipe_file: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(recipe_file, tmp_path / "b.yaml"))
    options = ["--data", "covid-ct", "--split", "grouped", "--seeds", 2, "--split-seed", 5, "--folds", 4]
    more = ["--set", "training.epochs=2", "--set", "optimiser.lr=0.1", "-o", "there"]
    externals = ["--external", "sarscov2-ct", "--external", "ccap"]
    items, protocol, folder, external = asked(monkeypatch, recipe_file, other, *options, *more, *externals)
    assert items == [recipe_file, other]
    assert protocol == Protocol(
        "covid-ct", "grouped", 5, (0, 1), 4, ("training.epochs=2", "optimiser.lr=0.1")
    )
    assert (folder, external) == (Path("there"), ["sarscov2-ct", "ccap"])


def test_defaults_are_three_seeds_and_the_datasets_own_split(
    monkeypatch: pytest.MonkeyPatch, recipe_file: Path
) -> None:
    _, protocol, folder, external = asked(monkeypatch, recipe_file, "--data", "covid-ct")
    assert protocol == Protocol("covid-ct", "official", 0, (0, 1, 2), None, ())
    assert (folder, external) == (Path("comparison"), [])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["gone.yaml"], "gone.yaml: there is no such recipe"),
        (["gone.yaml", "--data", "{data}"], "gone.yaml: there is no such recipe"),
        (["{recipe}", "{recipe}"], "tiny: named twice"),
        (["{recipe}", "--external", "nowhere"], "nowhere: no dataset has this name"),
        (["{recipe}", "--set", "model.filter=3"], "model.filter"),
    ],
    ids=["recipe", "recipe-with-data", "twice", "external", "set"],
)
def test_a_users_mistake_ends_with_a_clear_error_before_anything_is_written(
    arguments: list[str],
    hint: str,
    recipe_file: Path,
    class_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [part.format(recipe=recipe_file, data=class_folder) for part in arguments]
    monkeypatch.setattr(sys, "argv", ["groundglass", "compare", *filled])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert hint in error or "model.filter" in hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [[], ["a.yaml", "--seeds", "0"], ["a.yaml", "--folds", "1"], ["a.yaml", "--split", "fair"]]
)
def test_wrong_usage_is_code_2(wrong: list[str]) -> None:
    assert run(*wrong).exit_code == 2
