import json
import shutil
from pathlib import Path

import pytest

from evaluations import evaluation
from groundglass.bundle.facts import RESEARCH_USE, EvaluationFacts
from groundglass.bundle.store import shipped_bundles, shipped_training
from groundglass.detect.bundle import Bundle
from groundglass.errors import BundleError


@pytest.fixture
def copy(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def test_a_folder_and_its_zip_are_the_same_bundle(copy: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(copy)
    bundle.write(tmp_path / "a.zip")
    bundle.write(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    zipped = Bundle.load(tmp_path / "a.zip")
    assert (zipped.facts, zipped.graph, zipped.recipe) == (bundle.facts, bundle.graph, bundle.recipe)


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx", "recipe.yaml"])
def test_a_missing_or_damaged_file_is_reported(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    with pytest.raises(BundleError, match="not a complete bundle"):
        Bundle.load(copy)
    if name != "recipe.yaml":
        (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(BundleError, match=r"does not fit|damaged"):
            Bundle.load(copy)


def test_a_newer_format_is_refused(copy: Path) -> None:
    facts = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**facts, "format": 3}))
    with pytest.raises(BundleError, match="has format 3, and this version of Groundglass reads format 2"):
        Bundle.load(copy)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(BundleError, match=Bundle.default):
        Bundle.load("no-such-bundle")


def test_a_file_that_is_not_a_zip_is_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(BundleError, match="not a complete bundle"):
        Bundle.load(tmp_path / "x.zip")


def test_figures_are_entered_once_for_each_set(copy: Path) -> None:
    bundle = Bundle.load(copy)
    facts = {
        "dataset": "elsewhere",
        "part": "all",
        "external": True,
        "fingerprint": "f",
        "date": "2020-01-01",
    }
    for value in (0.51, 0.52):
        bundle.record(EvaluationFacts(**facts, slices=evaluation(value)))
    assert [e.slices.metrics["roc_auc"].value for e in Bundle.load(copy).facts.evaluations] == [0.52]
    card = (copy / "MODEL_CARD.md").read_text()
    assert "external: another source" in card
    assert "0.52" in card
    assert RESEARCH_USE in card


def test_the_shipped_bundles_are_whole_small_and_tested() -> None:
    assert Bundle.default in shipped_bundles()
    for folder in shipped_bundles("detector").values():
        facts = Bundle.load(folder).facts
        assert facts.name == folder.name
        assert facts.evaluations, "a shipped bundle states its test figures"
        assert sum(file.stat().st_size for file in folder.iterdir()) < 25e6
        assert facts.training.dataset in (folder / "MODEL_CARD.md").read_text()


def test_each_dataset_that_was_trained_on_states_whether_commercial_use_is_allowed() -> None:
    training = Bundle.load("detector-lesions").facts.training
    mixed = training.model_copy(
        update={"sources": ("sarscov2-ct", "my-clinic"), "masks": ("covid19-ct-seg",)}
    )
    assert mixed.licences() == [
        ("sarscov2-ct", "CC BY-NC-SA 4.0", "no"),
        ("my-clinic", "not known", "not known"),
        ("covid19-ct-seg", "CC BY 4.0", "yes, with attribution"),
    ]
    terms = mixed.terms()
    assert "commercial use is not allowed for sarscov2-ct" in terms
    assert "the licence is not known for my-clinic" in terms
    assert "covid19-ct-seg" not in terms
    assert not training.model_copy(update={"sources": ("covid19-ct-seg",), "masks": ()}).terms()


def test_the_cards_of_the_shipped_bundles_state_these_terms() -> None:
    for name, training in shipped_training().items():
        card = (shipped_bundles()[name] / "MODEL_CARD.md").read_text()
        assert all(f"| {' | '.join(row)} |" in card for row in training.licences())
        assert training.terms() in card
