"""``groundglass calibrate``: its choices, their performance on held-out slices, and what the bundle stores."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from evaluations import evaluation as made_up
from groundglass.bundle.facts import EvaluationFacts
from groundglass.bundle.store import shipped_bundles
from groundglass.cli.app import app
from groundglass.commands.calibrate import calibrate
from groundglass.detect.bundle import Bundle
from groundglass.detect.patient_rule import slices_rule
from groundglass.errors import BundleError, GroundglassError
from groundglass.evaluation.predictions import write_predictions
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE

SHIFTS = {"here": 0.0, "there": 0.4, "elsewhere": -0.3}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "bundle"
    shutil.copytree(shipped_bundles("detector")["covid-ct-lite0"], folder)
    return Bundle.load(folder)


def predictions(count: int = 120, sources: dict[str, float] = SHIFTS, seed: int = 0) -> pd.DataFrame:
    """``count`` patients of two slices in each source; every second one is positive."""
    rng = np.random.default_rng(seed)
    frames = []
    for source, shift in sources.items():
        patients = np.repeat(np.arange(count), 2)
        truth = patients % 2 == 0
        logits = np.where(truth, 1.2, -1.2) + shift + rng.normal(0, 1, count)[patients]
        frame = pd.DataFrame({"path": [f"{source}-{row}.png" for row in range(len(truth))]})
        frame["patient"], frame["group"] = [f"p{patient}" for patient in patients], ""
        frame["label"] = np.where(truth, POSITIVE, NEGATIVE)
        frame["score"], frame["probability"] = expit(2 * logits), expit(logits)
        frame["verdict"], frame["source"] = np.where(logits > 0, POSITIVE, NEGATIVE), source
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    write_predictions(predictions(), tmp_path / "pooled.csv")
    return tmp_path / "pooled.csv"


def test_it_is_recorded_and_reported(bundle: Bundle, csv: Path) -> None:
    before = bundle.facts
    result = calibrate(bundle, csv)
    facts = Bundle.load(bundle.source).facts
    found = facts.abstention
    assert found is not None
    assert found == bundle.facts.abstention
    # Patients with the same number in other sources are different.
    assert (found.cases, found.groups) == (720, 360)
    assert (facts.temperature, facts.bias, facts.threshold) == (before.temperature, 0.0, before.threshold)
    card = (bundle.source / "MODEL_CARD.md").read_text()
    assert (
        "720 slices of 360 patients or groups (360 slices with COVID-19) from elsewhere, here, there" in card
    )
    assert "pooled.csv, fingerprint" in card
    assert found.ends() in card
    for one in result.held_out:
        assert str(one.choice()) in card
    assert [one.left_out for one in result.held_out] == ["elsewhere", "here", "there", "all"]
    assert sum(one.cases for one in result.held_out[:-1]) == result.held_out[-1].cases == 720


def test_another_choice_replaces_it(bundle: Bundle, csv: Path) -> None:
    earlier = bundle.facts.chosen
    calibrate(bundle, csv, refit=True)
    calibrate(bundle, csv, coverage=0.8, refit=True)
    chosen = bundle.facts.chosen
    new = ("calibration", "threshold", "uncertain")
    assert [choice.what for choice in chosen[-3:]] == list(new)
    assert list(chosen[:-3]) == [choice for choice in earlier if choice.what not in new]
    assert "80% coverage" in chosen[-1].criterion


def test_figures_of_before_are_marked(bundle: Bundle, csv: Path) -> None:
    evaluation = EvaluationFacts(
        dataset="x", part="all", external=True, fingerprint="", date="", slices=made_up(0.8)
    )
    bundle.record(evaluation)
    calibrate(bundle, csv)
    bundle.record(evaluation.model_copy(update={"dataset": "y"}))
    marked = {one.dataset: one.superseded for one in bundle.facts.evaluations}
    assert (marked["x"], marked["y"]) == (True, False)
    assert bundle.facts.validation_superseded
    assert "The verdicts were calibrated again since" in (bundle.source / "MODEL_CARD.md").read_text()


def test_refitting_finds_temperature_and_bias(bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = predictions(600, {"one": 0.0, "two": 0.0})
    logits = rng.normal(0, 2, len(frame))
    frame["label"] = np.where(rng.random(len(frame)) < expit(logits), POSITIVE, NEGATIVE)
    frame["score"], frame["probability"] = expit(3 * (logits + 0.5)), 0.5
    write_predictions(frame, tmp_path / "x.csv")
    calibrate(bundle, tmp_path / "x.csv", refit=True)
    facts = bundle.facts
    assert facts.temperature == pytest.approx(3, rel=0.15)
    assert facts.bias == pytest.approx(-0.5, abs=0.15)
    assert facts.threshold == pytest.approx(0.5, abs=0.1)
    # The abstention uses the new probabilities: with the file's own, all equal, nothing would be answered.
    assert 0.01 < facts.abstention.lowest < 0.5 < facts.abstention.highest < 0.99
    answer = facts.answer(3 * (1.0 + 0.5))
    assert answer.probability == pytest.approx(expit(1.0), abs=0.05)


def test_sources_have_equal_weight_in_refitting(bundle: Bundle, tmp_path: Path) -> None:
    small, large = predictions(40, {"small": 2.0}), predictions(400, {"large": -2.0})
    write_predictions(pd.concat([small, large]), tmp_path / "x.csv")
    calibrate(bundle, tmp_path / "x.csv", refit=True)
    assert bundle.facts.bias == pytest.approx(0, abs=0.2)


def test_uninformative_scores_are_reported(bundle: Bundle, tmp_path: Path) -> None:
    frame = predictions()
    frame["score"] = np.random.default_rng(0).random(len(frame))
    frame.loc[frame["label"] == POSITIVE, "score"] *= 0.8
    write_predictions(frame, tmp_path / "x.csv")
    assert any(
        "almost no information" in note for note in calibrate(bundle, tmp_path / "x.csv", refit=True).notes
    )


def test_refitting_removes_a_rule_that_uses_probabilities(bundle: Bundle, csv: Path) -> None:
    lesions = bundle.facts.patient
    calibrate(bundle, csv, refit=True)
    assert bundle.facts.patient == lesions
    bundle.enter(patient=slices_rule(0.5))
    calibrate(bundle, csv)
    assert bundle.facts.patient is not None
    assert any("groundglass aggregate" in note for note in calibrate(bundle, csv, refit=True).notes)
    assert bundle.facts.patient is None


def test_one_group_of_a_class_says_that_nothing_is_known(bundle: Bundle, tmp_path: Path) -> None:
    frame = predictions(20, {"one": 0.0})
    frame.loc[frame["label"] == POSITIVE, "patient"] = "p0"
    write_predictions(frame, tmp_path / "x.csv")
    result = calibrate(bundle, tmp_path / "x.csv")
    assert result.held_out == []
    assert bundle.facts.abstention.never == (NEGATIVE,)
    assert any("only 1 patients or groups labelled covid, and" in note for note in result.notes)
    assert "is not known" in (bundle.source / "MODEL_CARD.md").read_text()


def test_what_is_not_a_chest_ct_is_not_used_for_choosing(bundle: Bundle, csv: Path, tmp_path: Path) -> None:
    frame = predictions()
    frame.loc[:99, "verdict"] = NOT_A_CHEST_CT
    write_predictions(frame, tmp_path / "x.csv")
    result = calibrate(bundle, tmp_path / "x.csv")
    assert bundle.facts.abstention.cases == 620
    assert result.notes[0].startswith("100 of 720 slices")


def test_one_class_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    write_predictions(predictions().assign(label=POSITIVE), tmp_path / "x.csv")
    with pytest.raises(GroundglassError, match="have the same label"):
        calibrate(bundle, tmp_path / "x.csv")
    assert bundle.facts.abstention is None


def test_several_classes_are_not_refitted(bundle: Bundle, csv: Path) -> None:
    bundle.facts = bundle.facts.model_copy(update={"classes": ("normal", POSITIVE)})
    with pytest.raises(GroundglassError, match="leave out --refit"):
        calibrate(bundle, csv, refit=True)


def test_a_zip_is_not_rewritten(bundle: Bundle, csv: Path, tmp_path: Path) -> None:
    bundle.write(tmp_path / "x.zip")
    with pytest.raises(BundleError, match="not to a zip"):
        calibrate(Bundle.load(tmp_path / "x.zip"), csv)


def test_the_command(bundle: Bundle, csv: Path) -> None:
    done = CliRunner().invoke(
        app, ["calibrate", str(csv), "-b", str(bundle.source), "--coverage", "0.95", "--refit"]
    )
    assert done.exit_code == 0, done.output
    for words in ("Temperature", "elsewhere", "all", "uncertain between the two", "Coverage 95%"):
        assert words in done.stdout
    assert Bundle.load(bundle.source).facts.abstention.coverage == 0.95


def test_settings_are_chosen_one_after_the_other(bundle: Bundle, tmp_path: Path) -> None:
    frame = predictions()
    lesions = np.where(frame["label"] == POSITIVE, 0.1, 0.002)
    frame["lesion_probability"] = lesions * np.random.default_rng(2).uniform(0.2, 1, len(frame))
    write_predictions(frame, tmp_path / "pooled.csv")
    calibrate(bundle, tmp_path / "pooled.csv", setting="screening", sources=["here"])
    assert (bundle.facts.setting, list(bundle.facts.settings)) == ("screening", ["screening"])
    result = CliRunner().invoke(
        app,
        ["calibrate", str(tmp_path / "pooled.csv"), "-b", str(bundle.source), "--setting", "differential"],
    )
    assert result.exit_code == 0, result.output
    facts = Bundle.load(bundle.source).facts
    assert (facts.setting, list(facts.settings)) == ("differential", ["differential", "screening"])
    screening = facts.settings["screening"]
    assert screening.sources == ("here",)
    assert min(screening.weights[1:]) > 0
    assert len(screening.draws) == 200
    assert facts.answer(4.0, 0.1).likelihood_ratios[1].ratio > 10
    assert facts.answer(-4.0, 0.001).likelihood_ratios[1].ratio < 0.1
    card = (bundle.source / "MODEL_CARD.md").read_text()
    assert (
        "Setting differential (the default; controls have another disease of the lungs; validated on" in card
    )


def test_what_a_setting_needs_is_named(bundle: Bundle, csv: Path) -> None:
    with pytest.raises(GroundglassError, match="lack the column lesion_probability"):
        calibrate(bundle, csv, setting="screening")
    with pytest.raises(GroundglassError, match="no slices of the source mars; it has elsewhere, here, there"):
        calibrate(bundle, csv, sources=["mars"])
