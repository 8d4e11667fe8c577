"""The commands of docs/several-classes.md, on phantoms of four classes from three hospitals."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from groundglass.cli.app import app
from groundglass.labels import POSITIVE
from groundglass.phantom import write_phantom_set

ROOT = Path(__file__).parents[2]
CLASSES = {
    "COVID-19": "covid",
    "Normal": "none",
    "Mycoplasma pneumonia": "other",
    "Viral pneumonia": "other",
}
"""The folders, and the phantoms that represent each class."""
SHORT = ("preprocessing.size=[64, 64]", "model={name: small-cnn}", "training.epochs=1", "training.steps=2")
"""Settings that make a run short: tests/test_recipes.py trains both recipes with their own networks."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipes and the slices of three hospitals, two patients of each class in each."""
    root = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "recipes", root / "recipes")
    seed = 0
    for hospital in ("north", "south", "elsewhere"):
        for label, disease in CLASSES.items():
            made = root / "made" / f"{hospital}-{label}"
            rows = write_phantom_set(made, count=2, disease=disease, seed=seed, shape=(8, 128, 128))
            for row in rows[::2]:
                folder = root / hospital / label / row["patient"]
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(row["path"], folder)
            seed += 2
    shutil.rmtree(root / "made")
    return root


def commands() -> list[str]:
    """The commands of the page's steps; those below them need real datasets."""
    steps, _ = (ROOT / "docs" / "several-classes.md").read_text().split("## A warning")
    found = re.findall(r"^```\n(.*?)^```$", steps, re.MULTILINE | re.DOTALL)
    return [line for line in "".join(found).splitlines() if line.startswith(("groundglass", "("))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.tutorial
def test_every_command_of_the_page_runs(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    for line in commands():
        if line.startswith("("):
            subprocess.run(["sh", "-c", line], check=True)
            continue
        words = shlex.split(line)[1:]
        if words[0] in ("train", "compare"):
            words += [word for change in SHORT for word in ("--set", change)]
        done = CliRunner().invoke(app, ["1" if word == "3" else word for word in words])
        assert done.exit_code == 0, (line, done.output, done.exception)
    audit = json.loads((desk / "audit-data" / "audit.json").read_text())
    (source,) = (check for check in audit["outcomes"] if check["code"] == "GG112")
    assert source["status"] == "passed"
    assert "viral pneumonia 0." in source["message"]
    classes = {POSITIVE, "normal", "mycoplasma pneumonia", "viral pneumonia"}
    for folder in ("evaluation", "evaluation-elsewhere"):
        metrics = json.loads((desk / folder / "metrics.json").read_text())
        assert set(metrics["classes"]["classes"]) == classes
        assert min(metrics["classes"]["counts"].values()) > 0
    assert metrics["external"] is True
    predictions = pd.read_csv(desk / "out" / "predictions.csv")
    assert {f"probability_{name}" for name in classes} <= set(predictions)
    compared = (desk / "compared" / "comparison.md").read_text()
    together = compared.split("all classes together")[1]
    assert re.findall(r"^\| (\S+) \| 1 \| ", together, re.MULTILINE) == [
        "dropout-cnn-classes",
        "classes-lite0",
    ]
