import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from groundglass.commands.evaluate import choose_rows
from groundglass.commands.leave_one_out import leave_one_source_out
from groundglass.commands.system_runs import make_protocol
from groundglass.commands.train import train
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.evaluation.operating_point import most_certain_accuracy
from groundglass.evaluation.predictions import read_predictions
from groundglass.report.leave_one_out import LeaveOneOutResult
from groundglass.train.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")

BOTH = ("covid", "normal")
SHORT = ("data.split=grouped", "data.fractions=[0.5, 0.25, 0.25]", "training.epochs=1")


def site(class_folder: Path, source: str, labels: tuple[str, ...], start: int = 0) -> list[str]:
    """Rows of a manifest: eight pictures of each class, each of a different patient, from number ``start`` on."""
    return [
        f"{class_folder}/{label}/{number}.png,{label},{source}-{label}-{number},,{source}"
        for label in labels
        for number in range(start, start + 8)
    ]


def write_manifest(file: Path, rows: list[str]) -> Path:
    file.write_text("\n".join(["path,label,patient,split,source", *rows]))
    return file


@pytest.fixture(scope="module")
def sites(class_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of three sources: two with both classes, and one with one class, whose name no folder can have."""
    rows = [
        *site(class_folder, "north", BOTH),
        *site(class_folder, "south", BOTH, 8),
        *site(class_folder, "east/1", ("covid",), 16),
    ]
    return write_manifest(tmp_path_factory.mktemp("sites") / "sites.csv", rows)


@pytest.fixture(scope="module")
def changes(sites: Path) -> tuple[str, ...]:
    return (f"data.dataset={sites}", *SHORT)


@pytest.fixture(scope="module")
def judged(
    recipe_file: Path, changes: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[LeaveOneOutResult, Path]:
    folder = tmp_path_factory.mktemp("judged")
    return leave_one_source_out(recipe_file, changes, folder, lungs=False, tell=lambda line: None)


def test_every_source_is_answered_by_who_never_saw_it(judged: tuple[LeaveOneOutResult, Path]) -> None:
    _, folder = judged
    for source, name in (("north", "north"), ("south", "south"), ("east/1", "east%2F1")):
        manifest = pd.read_csv(folder / name / "manifest.csv")
        assert set(manifest.loc[manifest["split"] == "test", "source"]) == {source}
        assert source not in set(manifest.loc[manifest["split"] != "test", "source"])
        facts = Bundle.load(folder / name).facts.training
        assert source not in facts.sources
        assert facts.split == f"grouped, without {source}"
        assert json.loads((folder / name / "left-out" / "metrics.json").read_text())["external"]


def test_all_answers_are_pooled_with_their_source(judged: tuple[LeaveOneOutResult, Path]) -> None:
    _, folder = judged
    pooled = read_predictions(folder / "predictions.csv")
    assert pooled["source"].value_counts().to_dict() == {"north": 16, "south": 16, "east/1": 8}
    assert pooled["path"].is_unique


def test_figures_are_by_source_and_their_mean(judged: tuple[LeaveOneOutResult, Path]) -> None:
    found, folder = judged
    document = json.loads((folder / "leave_one_source_out.json").read_text())
    assert [one["source"] for one in document["sources"]] == ["east/1", "north", "south"]
    east, *others = document["sources"]
    assert east["slices"]["metrics"]["roc_auc"]["value"] is None
    assert east["slices"]["metrics"]["specificity"]["value"] is None
    assert east["slices"]["metrics"]["sensitivity"]["value"] is not None
    aucs = [one["slices"]["metrics"]["roc_auc"]["value"] for one in others]
    assert document["mean"]["roc_auc"] == pytest.approx(sum(aucs) / 2)
    north = read_predictions(folder / "north" / "left-out" / "predictions.csv")
    assert others[0]["most_certain_accuracy"] == most_certain_accuracy(north, others[0]["threshold"])
    assert [row[0] for row in found.table().rows] == ["east/1", "north", "south", "mean over sources"]
    assert "(of 2)" in found.table().rows[-1][3]


def test_patients_have_a_table_of_their_own(judged: tuple[LeaveOneOutResult, Path]) -> None:
    found, folder = judged
    table = found.patients_table()
    assert table is not None
    assert [row[:2] for row in table.rows] == [("east/1", "8 (8)"), ("north", "16 (8)"), ("south", "16 (8)")]
    document = json.loads((folder / "leave_one_source_out.json").read_text())
    metrics = json.loads((folder / "north" / "left-out" / "metrics.json").read_text())
    assert document["sources"][1]["patients"] == metrics["patients"]
    assert "per patient" in (folder / "report.html").read_text()
    assert "no lung areas, which the patient rule needs" in table.note


def test_the_coverage_is_shown_where_not_all_is_answered(judged: tuple[LeaveOneOutResult, Path]) -> None:
    found, _ = judged
    assert "Coverage" not in found.table().header
    first, *others = found.each
    metrics = first.slices.metrics
    part = metrics | {"coverage": metrics["coverage"].model_copy(update={"value": 0.75})}
    slices = first.slices.model_copy(update={"metrics": part})
    unsure = LeaveOneOutResult(
        found.recipe, (replace(first, facts=first.facts.model_copy(update={"slices": slices})), *others)
    )
    table = unsure.table()
    assert [row[table.header.index("Coverage")] for row in table.rows] == ["0.75", "1.00", "1.00", "0.92"]


def test_the_pages_that_the_report_leads_to_are_there(judged: tuple[LeaveOneOutResult, Path]) -> None:
    from urllib.parse import unquote

    _, folder = judged
    links = re.findall(r'href="([^"]+)"', (folder / "report.html").read_text())
    assert len(links) == 6
    assert all((folder / unquote(link)).is_file() for link in links)


def test_what_was_trained_is_not_trained_again(
    judged: tuple[LeaveOneOutResult, Path], recipe_file: Path, changes: tuple[str, ...]
) -> None:
    """One run was finished, another was stopped before its first epoch."""
    before, folder = judged
    kept = (folder / "north" / "checkpoints" / "best.ckpt").stat().st_mtime_ns
    for file in (folder / "south" / "checkpoints").iterdir():
        file.unlink()
    Run(folder / "south").update(state="started")
    said: list[str] = []
    after, _ = leave_one_source_out(recipe_file, changes, folder, lungs=False, tell=said.append)
    assert (folder / "north" / "checkpoints" / "best.ckpt").stat().st_mtime_ns == kept
    assert [line for line in said if "epoch" in line] == [line for line in said if line.startswith("south  ")]
    assert {"north: was already trained", "north: running on its 16 slices"} <= set(said)
    assert "south: trained" in said
    assert [one.to_dict() for one in after.each] == [one.to_dict() for one in before.each]
    with pytest.raises(GroundglassError, match=r"another recipe; .* choose another folder with -o"):
        leave_one_source_out(recipe_file, (*changes, "seed=8"), folder, lungs=False, tell=said.append)


def test_a_source_left_out_is_the_bundles_external_test(
    judged: tuple[LeaveOneOutResult, Path], sites: Path
) -> None:
    bundle = Bundle.load(judged[1] / "north")
    labelled = choose_rows(bundle, str(sites), None)
    assert (labelled.part, labelled.external, labelled.warnings) == ("test", True, ())
    assert set(labelled.rows["source"]) == {"north"}
    chosen_on = choose_rows(bundle, str(sites), "val")
    assert not chosen_on.external
    assert ["chosen on these" in warning for warning in chosen_on.warnings] == [True]
    from_run = choose_rows(bundle, str(judged[1] / "north" / "manifest.csv"), "val")
    assert set(from_run.rows["path"]) == set(chosen_on.rows["path"])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"north": BOTH}, "all scans are from north, but at least two sources"),
        ({"a": ("covid",), "b": BOTH}, "without b the train set has no slices of not covid"),
    ],
    ids=["one source", "a class from one source"],
)
def test_sources_that_cannot_be_left_out_are_reported_before_training(
    recipe_file: Path, class_folder: Path, tmp_path: Path, sources: dict[str, tuple[str, ...]], message: str
) -> None:
    rows = [
        row
        for number, (source, labels) in enumerate(sources.items())
        for row in site(class_folder, source, labels, 8 * number)
    ]
    manifest = write_manifest(tmp_path / "sites.csv", rows)
    changes = (*SHORT, f"data.dataset={manifest}")
    with pytest.raises(GroundglassError, match=message):
        leave_one_source_out(recipe_file, changes, tmp_path / "out", tell=lambda line: None)
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_leaves_a_source_out_itself_is_refused(
    recipe_file: Path, changes: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(GroundglassError, match="already leaves out north"):
        leave_one_source_out(recipe_file, (*changes, "data.leave_out=north"), tmp_path)


@pytest.fixture(scope="module")
def joint(
    recipe_file: Path, class_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path, Path]:
    """A run on two datasets, one of which names no source, and both."""
    folder = tmp_path_factory.mktemp("joint")
    first = write_manifest(folder / "one.csv", site(class_folder, "one", BOTH))
    other = write_manifest(folder / "two.csv", site(class_folder, "", BOTH, 8))
    further = f"data.further=[{{dataset: {other}, split: random, fractions: [0.5, 0.25, 0.25]}}]"
    changes = (*SHORT, f"data.dataset={first}", further)
    run = train(recipe_file, changes, folder / "run", tell=lambda line: None)
    return run, first, other


def test_a_bundle_of_two_datasets_names_both(joint: tuple[Run, Path, Path]) -> None:
    facts = Bundle.load(joint[0].folder).facts.training
    assert (facts.dataset, facts.sources) == ("one.csv + two.csv", ("one", "two"))
    assert (facts.split, facts.licence) == ("grouped + random", "not stated")
    assert set(facts.fingerprints) == {"one", "two"}
    assert facts.parts["train"].slices == 16
    assert "one.csv + two.csv" in joint[0].report_file.read_text()


@pytest.mark.parametrize(("place", "split"), [(1, "grouped"), (2, "random")])
def test_each_of_two_datasets_is_the_bundles_own(
    joint: tuple[Run, Path, Path], place: int, split: str
) -> None:
    run, bundle = joint[0], Bundle.load(joint[0].folder)
    labelled = choose_rows(bundle, str(joint[place]), None)
    assert (labelled.part, labelled.external, labelled.split) == ("test", False, split)
    assert labelled.warnings == ()
    manifest = pd.read_csv(run.manifest_file)
    tested = manifest[(manifest["split"] == "test") & (manifest["source"] == ("one", "two")[place - 1])]
    assert {Path(path).name for path in labelled.rows["path"]} == {Path(path).name for path in tested["path"]}


def test_changed_data_of_one_dataset_is_reported(
    joint: tuple[Run, Path, Path], class_folder: Path, tmp_path: Path
) -> None:
    bundle = Bundle.load(joint[0].folder)
    changed = write_manifest(tmp_path / "one.csv", site(class_folder, "one", BOTH, 16))
    with pytest.raises(GroundglassError, match="the bundle's split has none of its files"):
        choose_rows(bundle, str(changed), None)
    labelled = choose_rows(bundle, str(changed), "all")
    assert "The files are not those of the training run" in labelled.warnings[0]
    foreign = write_manifest(tmp_path / "else.csv", site(class_folder, "three", BOTH, 16))
    assert choose_rows(bundle, str(foreign), None).external


def test_systems_of_several_datasets_are_compared_on_a_named_one(joint: tuple[Run, Path, Path]) -> None:
    def protocol(dataset: str | None) -> str:
        items = [joint[0].folder]
        return make_protocol(items, dataset, None, split_seed=0, seeds=(0,), folds=None, changes=()).dataset

    with pytest.raises(GroundglassError, match=r"uses several datasets, .* with --data"):
        protocol(None)
    assert protocol(str(joint[1])) == str(joint[1])
