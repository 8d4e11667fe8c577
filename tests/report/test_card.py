"""Reporting standards: every item of the right edition is answered, left to the author, or not applicable."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from groundglass.cli.app import app
from groundglass.commands.report_card import report_card
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.preprocess import Preprocessing
from groundglass.report.card import Answer, answers, standards

NUMBERS = {
    "CLAIM 2024": tuple(str(number) for number in range(1, 45)),
    "TRIPOD+AI": (
        *(
            "1",
            "2",
            "3a",
            "3b",
            "3c",
            "4",
            "5a",
            "5b",
            "6a",
            "6b",
            "6c",
            "7",
            "8a",
            "8b",
            "8c",
            "9a",
            "9b",
            "9c",
        ),
        *("10", "11", *(f"12{letter}" for letter in "abcdefg"), "13", "14", "15", "16", "17"),
        *(*(f"18{letter}" for letter in "abcdef"), "19", "20a", "20b", "20c", "21", "22", "23a", "23b", "24"),
        *("25", "26", "27a", "27b", "27c"),
    ),
}
DEVELOPS = {"9a", "12a", "12b", "12c", "15", "22", "27a", "27b"}
EVALUATES = {"12f", "12g", "20c", "24"}


def answered(bundle: Bundle, recipe: dict[str, Any]) -> dict[str, dict[str, Answer]]:
    return {
        standard.title: {one.item.item: one for one in answers(standard, bundle.facts, recipe, {})}
        for standard in standards(bundle.facts)
    }


@pytest.fixture(scope="module")
def shipped() -> dict[str, dict[str, Answer]]:
    bundle = Bundle.load()
    return answered(bundle, yaml.safe_load(bundle.recipe))


@pytest.fixture(scope="module")
def own() -> dict[str, dict[str, Answer]]:
    detector = Detector.of_function(lambda slices: [0.5], Preprocessing(size=(32, 32)), lungs=False)
    return answered(detector.bundle, {})


def test_the_items_are_those_of_the_edition(shipped: dict[str, dict[str, Answer]]) -> None:
    assert {title: tuple(items) for title, items in shipped.items()} == NUMBERS
    assert len({number.rstrip("abcdefg") for number in NUMBERS["TRIPOD+AI"]}) == 27
    studies = {
        study: {n for n, one in shipped["TRIPOD+AI"].items() if one.item.study == study} for study in "DE"
    }
    assert studies == {"D": DEVELOPS, "E": EVALUATES}


@pytest.mark.parametrize("title", NUMBERS)
def test_the_documentation_states_the_counts(title: str, shipped: dict[str, dict[str, Answer]]) -> None:
    counts = Counter(one.status for one in shipped[title].values())
    row = [
        counts.total(),
        *(counts[status] for status in ("answered", "in part", "for the author", "not applicable")),
    ]
    text = (Path(__file__).parents[2] / "docs" / "reporting.md").read_text("utf-8")
    assert f"| {title} | {' | '.join(map(str, row))} |" in text


@pytest.mark.parametrize("title", NUMBERS)
def test_every_item_is_answered_left_to_the_author_or_not_applicable(
    title: str, shipped: dict[str, dict[str, Answer]], own: dict[str, dict[str, Answer]]
) -> None:
    for one in (*shipped[title].values(), *own[title].values()):
        assert one.told
        assert "None" not in one.told
        assert bool(one.where[0]) == (one.status in ("answered", "in part"))
        assert ("For the author: " in one.told) == (one.status in ("in part", "for the author"))
        assert one.told.startswith("Not applicable, because ") == (one.status == "not applicable")
        assert one.status == "answered" or one.status == "not applicable" or one.item.author


def test_answers_are_the_facts_of_the_bundle(shipped: dict[str, dict[str, Answer]]) -> None:
    facts = Bundle.load().facts
    claim = shipped["CLAIM 2024"]
    assert "train: 4459 slices, 1305 covid" in claim["19"].told
    assert claim["22"].where == ("recipe.yaml", "model")
    assert facts.graph_sha256 in claim["22"].told
    assert "of the 203 slices are in the training or validation set" in claim["20"].told
    auc = re.search(r"covid-ct, test set: .*ROC AUC ([\d.]+) \(([\d.]+) to ([\d.]+)\)", claim["32"].told)
    measured = next(e for e in facts.evaluations if e.dataset == "covid-ct").slices.metrics["roc_auc"]  # type: ignore[union-attr]
    assert auc is not None
    assert [float(value) for value in auc.groups()] == pytest.approx(
        [measured.value, measured.low, measured.high], abs=0.005
    )
    assert claim["27"].status == claim["34"].status == "not applicable"
    assert {claim[number].status for number in ("2", "11", "13", "18", "36", "44")} == {"for the author"}


def test_nothing_is_claimed_of_a_model_that_was_trained_elsewhere(own: dict[str, dict[str, Answer]]) -> None:
    for number in ("1", "5", "7", "19", "23", "24", "25", "27", "32", "33", "34", "37"):
        assert own["CLAIM 2024"][number].status == "for the author", number
    assert own["CLAIM 2024"]["9"].status == "answered"
    assert own["CLAIM 2024"]["31"].status == "not applicable"


def test_the_command_writes_files_whose_links_lead_somewhere(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "card", "detector-lesions", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    names = {"MODEL_CARD.md", "CLAIM-2024.md", "TRIPOD-AI.md", "report.html", "bundle.json", "recipe.yaml"}
    assert {path.name for path in tmp_path.iterdir()} == names
    page = (tmp_path / "report.html").read_text()
    for text in (page, (tmp_path / "CLAIM-2024.md").read_text(), (tmp_path / "TRIPOD-AI.md").read_text()):
        leads = set(re.findall(r'href="([^"]+)"|\]\(([^)]+)\)', text))
        assert {first or second for first, second in leads} <= names
        assert not re.search(
            r"\d ?%|score of", text.split("Item by item")[0].split("| item |")[0].split("<body>")[-1]
        )
    rows = [line for line in (tmp_path / "TRIPOD-AI.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 52
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_a_segmenter_gets_no_standard_for_prediction_models(tmp_path: Path) -> None:
    assert list(report_card("lungs-lite0", tmp_path)) == ["CLAIM 2024"]
    assert "TRIPOD+AI is left out" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "TRIPOD-AI.md").exists()


def test_a_run_adds_what_only_it_records(trained: Path, tmp_path: Path) -> None:
    report_card(trained, tmp_path)
    claim = (tmp_path / "CLAIM-2024.md").read_text()
    assert re.search(r"small-cnn.* \d+ parameters", claim)
    assert "slice by slice, so slices of one patient may be in two parts" in claim
