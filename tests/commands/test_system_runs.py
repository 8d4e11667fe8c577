import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from groundglass.commands import system_runs
from groundglass.commands.system_runs import (
    Protocol,
    TrainedSystem,
    answers,
    check_unseen,
    make_protocol,
    trained_systems,
)
from groundglass.data.manifest import import_path, read_manifest, write_manifest
from groundglass.data.splits import LeakageWarning, groups
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.train.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")

Train = Callable[..., list[TrainedSystem]]


@pytest.fixture(scope="module")
def protocol(class_folder: Path) -> Protocol:
    return Protocol(str(class_folder), "grouped", 1, (0,), None, ())


@pytest.fixture(scope="module")
def whole(recipe_file: Path, protocol: Protocol, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A member that was trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    (found,) = trained_systems([recipe_file], protocol, folder, [], lambda line: None)
    return found.runs[0]


@pytest.fixture
def copy(whole: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(whole.folder, tmp_path / "runs" / whole.folder.name))


@pytest.fixture
def train(recipe_file: Path, protocol: Protocol, tmp_path: Path) -> Train:
    def train(
        items: Sequence[Path] = (recipe_file,),
        protocol: Protocol = protocol,
        judged: Sequence[tuple[str, pd.DataFrame]] = (),
        tell: Callable[[str], None] = lambda line: None,
    ) -> list[TrainedSystem]:
        return trained_systems(items, protocol, tmp_path / "runs", judged, tell)

    return train


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("was trained")

    monkeypatch.setattr("groundglass.commands.train.train_recipe", refuse)


def rows_of_test(protocol: Protocol) -> pd.DataFrame:
    part, rows = protocol.judged_rows()
    assert part == "test"
    return rows


def parts(run: Run) -> dict[str, frozenset[str]]:
    manifest = read_manifest(run.manifest_file)
    return {part: frozenset(rows["path"]) for part, rows in manifest.groupby("split")}


def epochs(lines: Sequence[str]) -> list[str]:
    """The numbers of the reported epochs."""
    return [line.split("epoch ")[1][:3] for line in lines if "epoch " in line]


def assert_same_training(run: Run, whole: Run) -> None:
    assert run.facts()["state"] == "finished"
    assert run.log_file.read_text() == whole.log_file.read_text()
    assert run.predictions_file.read_text() == whole.predictions_file.read_text()
    graphs = [Bundle.load(which.folder).facts.graph_sha256 for which in (run, whole)]
    assert graphs[0] == graphs[1]
    states = [torch.load(which.checkpoints / "last.ckpt", weights_only=False) for which in (run, whole)]
    for name, value in states[1]["state_dict"].items():
        torch.testing.assert_close(states[0]["state_dict"][name], value, rtol=0, atol=0)


def test_the_protocol_overrides_a_recipes_data(whole: Run, protocol: Protocol) -> None:
    recipe = whole.recipe()
    assert recipe.seed == 0
    assert (recipe.data.split, recipe.data.seed, recipe.data.fractions) == ("grouped", 1, None)
    test = set(rows_of_test(protocol)["path"])
    assert {name: len(part) for name, part in parts(whole).items()} == {"train": 32, "val": 8, "test": 8}
    assert parts(whole)["test"] == test


def test_changes_reach_every_recipe(train: Train, protocol: Protocol) -> None:
    (found,) = train(protocol=replace(protocol, changes=("training.epochs=1", "description=changed")))
    assert found.name == "tiny"
    assert found.runs[0].facts()["epochs_run"] == 1
    assert found.runs[0].recipe().description == "changed"


def test_each_fold_validates_in_turn_and_all_are_tested_on_the_same(
    train: Train, protocol: Protocol, tmp_path: Path
) -> None:
    folds = replace(protocol, folds=2, seeds=(4, 6), changes=("training.epochs=1",))
    (found,) = train(protocol=folds)
    names = [f"tiny-seed{seed}-fold{fold}" for seed in (4, 6) for fold in (0, 1)]
    assert [run.folder for run in found.runs] == [tmp_path / "runs" / name for name in names]
    assert [run.facts()["seed"] for run in found.runs] == [4, 4, 6, 6]
    first, second, *of_the_other_seed = map(parts, found.runs)
    assert first["test"] == second["test"] == set(rows_of_test(folds)["path"])
    assert first["val"] == second["train"]
    assert first["train"] == second["val"]
    assert of_the_other_seed == [first, second]


def test_what_is_trained_is_not_trained_again(
    copy: Run, train: Train, recipe_file: Path, no_training: None
) -> None:
    told: list[str] = []
    (found,) = train(tell=told.append)
    assert found.runs == (copy,)
    assert told == ["tiny-seed0: was already trained"]


def test_a_stopped_training_continues_after_its_last_epoch(train: Train, whole: Run, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if "epoch 3/4" in line:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        train(tell=stop)
    run, told = Run(tmp_path / "runs" / "tiny-seed0"), list[str]()
    assert run.facts()["state"] == "started"
    train(tell=told.append)
    assert epochs(told) == ["3/4", "4/4"]
    assert_same_training(run, whole)


def test_a_training_stopped_before_its_first_checkpoint_starts_again(
    train: Train, whole: Run, tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        train(tell=stop)
    run = Run(tmp_path / "runs" / "tiny-seed0")
    assert run.facts()["state"] == "started"
    assert not (run.checkpoints / "last.ckpt").exists()
    (run.folder / "left-over.txt").write_text("of the first try")
    told: list[str] = []
    train(tell=told.append)
    assert epochs(told) == ["1/4", "2/4", "3/4", "4/4"]
    assert not (run.folder / "left-over.txt").exists()
    assert_same_training(run, whole)


def test_a_training_whose_export_failed_is_exported(
    train: Train, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("groundglass.train.tasks.classify.ClassifyTask.export", full_disk)
        with pytest.raises(OSError, match="disk full"):
            train()
    run = Run(tmp_path / "runs" / "tiny-seed0")
    assert (run.facts()["state"], run.bundle_folder.exists()) == ("trained", False)
    told: list[str] = []
    train(tell=told.append)
    assert epochs(told) == []
    assert_same_training(run, whole)


@pytest.mark.parametrize("state", ["finished", "started"])
@pytest.mark.parametrize("change", [{"changes": ("training.epochs=9",)}, {"split_seed": 2}])
def test_a_run_by_another_recipe_is_refused_with_a_remedy(
    state: str, change: dict[str, Any], copy: Run, train: Train, protocol: Protocol
) -> None:
    copy.update(state=state)
    before = copy.facts_file.read_text()
    with pytest.raises(GroundglassError) as caught:
        train(protocol=replace(protocol, **change))
    message = str(caught.value)
    assert message.startswith(f"{copy.folder}: was started with another recipe")
    assert "choose another folder with -o, or delete" in message
    assert f"delete {copy.folder} to train it again" in message
    assert copy.facts_file.read_text() == before


def test_a_run_whose_data_changed_is_refused(
    recipe_file: Path, class_folder: Path, protocol: Protocol, tmp_path: Path, train: Train
) -> None:
    data = shutil.copytree(class_folder, tmp_path / "data")
    own = replace(protocol, dataset=str(data), changes=("training.epochs=1",))
    train(protocol=own)
    (data / "covid" / "0.png").write_bytes((data / "covid" / "1.png").read_bytes())
    with pytest.raises(
        GroundglassError, match=r"the data has changed .* delete .*tiny-seed0 to train it again"
    ):
        train(protocol=own)


def test_a_recipe_of_several_classes_keeps_them_where_all_labels_are_its_own(
    recipe_file: Path, class_folder: Path, protocol: Protocol, tmp_path: Path, train: Train
) -> None:
    data = shutil.copytree(class_folder, tmp_path / "data")
    shutil.copytree(class_folder / "normal", data / "pneumonia")
    changes = ("training.epochs=1", "data.classes=[pneumonia, covid, normal]")
    (three,) = train(protocol=replace(protocol, dataset=str(data), changes=changes))
    assert three.runs[0].recipe().data.several == ("pneumonia", "covid", "normal")
    elsewhere = tmp_path / "elsewhere"
    (two,) = trained_systems(
        [recipe_file], replace(protocol, changes=changes), elsewhere, [], lambda line: None
    )
    assert two.runs[0].recipe().data.classes is None


def test_two_systems_of_one_name_are_refused(
    copy: Run, recipe_file: Path, tmp_path: Path, train: Train, no_training: None
) -> None:
    namesake = Path(shutil.copytree(copy.folder, tmp_path / "tiny"))
    for items in ([recipe_file, recipe_file], [recipe_file, namesake]):
        with pytest.raises(GroundglassError, match=r"^tiny: named twice; rename"):
            train(items)


def test_the_name_of_the_ensemble_is_taken(train: Train, protocol: Protocol, no_training: None) -> None:
    with pytest.raises(GroundglassError, match=r"^ensemble: .*rename the recipe"):
        train(protocol=replace(protocol, changes=("name=ensemble",)))


def test_a_segmenters_recipe_or_a_mistake_shows_before_the_first_is_trained(
    recipe_file: Path, tmp_path: Path, train: Train, no_training: None
) -> None:
    other = tmp_path / "other.yaml"
    for text, message in (
        (
            "task: segmentation\nname: lungs\ndata: {dataset: ccap}\n",
            r"other.yaml: trains a segmenter",
        ),
        ("sede: 1\nname: other\ndata: {dataset: ccap}\n", r"sede: unknown key; did you mean seed"),
    ):
        other.write_text(text)
        with pytest.raises(GroundglassError, match=message):
            train([recipe_file, other])


def test_a_run_without_a_bundle_is_refused_before_a_recipe_is_trained(
    copy: Run, recipe_file: Path, tmp_path: Path, train: Train, no_training: None
) -> None:
    stopped = copy.folder.rename(tmp_path / "stopped")
    shutil.rmtree(stopped / "bundle")
    with pytest.raises(GroundglassError, match=r"stopped: has no bundle yet; finish the run"):
        train([recipe_file, stopped])


def test_a_run_that_has_seen_what_it_is_evaluated_on_is_refused_by_name(
    whole: Run, recipe_file: Path, train: Train, no_training: None
) -> None:
    manifest = read_manifest(whole.manifest_file)
    test, seen = (manifest[manifest["split"] == part] for part in ("test", "val"))
    check_unseen(whole, "test", test)
    assert len(train([whole.folder], judged=[("test", test)])) == 1
    judged = pd.concat([test, seen.iloc[:3]])
    told = f"^{whole.folder}: was trained or chosen on 3 of the 11 slices .*; give its recipe"
    for judgements in ([("test", judged)], [("test", test), ("all", judged)]):
        with pytest.raises(GroundglassError, match=told):
            train([recipe_file, whole.folder], judged=judgements)


def test_a_run_may_be_evaluated_on_what_it_was_chosen_on_if_all_are(whole: Run) -> None:
    manifest = read_manifest(whole.manifest_file)
    chosen, trained = (manifest[manifest["split"] == part] for part in ("val", "train"))
    check_unseen(whole, "val", chosen)
    with pytest.raises(GroundglassError, match="on 1 of the 9 slices"):
        check_unseen(whole, "val", pd.concat([chosen, trained.iloc[:1]]))


def test_a_run_with_the_name_of_a_shipped_bundle_answers_itself(
    copy: Run, protocol: Protocol, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.folder.rename(tmp_path / Bundle.default)
    monkeypatch.chdir(tmp_path)
    (found,) = train([Path(Bundle.default)])
    assert found.name == Bundle.default
    given = answers(found.runs[0], rows_of_test(protocol), tmp_path / "answers", "any")
    assert Bundle.load(found.runs[0].folder).facts.name == "tiny"
    assert len(given) == 8


def test_answers_are_those_of_the_run_and_are_kept(
    whole: Run, protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(whole.manifest_file)
    rows = manifest[manifest["split"] == "val"].reset_index(drop=True)
    given = answers(whole, rows, tmp_path, "any")
    own = pd.read_csv(whole.predictions_file).set_index("path")["probability"]
    by_file = {Path(path).parts[-2:]: value for path, value in own.items()}
    expected = [by_file[Path(path).parts[-2:]] for path in given["path"]]
    assert given["probability"].tolist() == pytest.approx(expected, abs=1e-4)
    asked: list[str] = []
    answer = system_runs.predict_rows
    monkeypatch.setattr(system_runs, "predict_rows", lambda *given: asked.append(given[3]) or answer(*given))
    pd.testing.assert_frame_equal(answers(whole, rows, tmp_path, "any"), given)
    assert asked == []
    for changed in (rows.iloc[1:], rows.assign(label="normal"), rows.assign(patient="p1")):
        again = answers(whole, changed, tmp_path, "any")
        assert again["label"].tolist() == changed["label"].tolist()
        assert again["patient"].tolist() == changed["patient"].tolist()
    assert len(asked) == 3


def test_another_bundle_or_threshold_is_answered_again(copy: Run, protocol: Protocol, tmp_path: Path) -> None:
    rows = rows_of_test(protocol)
    before = answers(copy, rows, tmp_path / "answers", "any")
    file = copy.bundle_folder / "bundle.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "threshold": 1.0}))
    after = answers(copy, rows, tmp_path / "answers", "any")
    assert ["covid" in set(given["verdict"]) for given in (before, after)] == [True, False]
    assert len(list((tmp_path / "answers").iterdir())) == 2


def test_a_slice_that_cannot_be_read_is_named_and_no_answers_are_kept(
    whole: Run, protocol: Protocol, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    rows = rows_of_test(protocol)
    rows.loc[2, "path"] = str(bad)
    with pytest.raises(GroundglassError, match=f"1 of 8 slices cannot be read.*{bad}: is not a picture"):
        answers(whole, rows, tmp_path / "answers", "any")
    assert list((tmp_path / "answers").iterdir()) == []


def plain(
    items: Sequence[Path], data: str | None = None, split: str | None = None, *changes: str
) -> Protocol:
    return make_protocol(items, data, split, split_seed=5, seeds=(0, 1), folds=None, changes=changes)


def test_the_dataset_is_that_of_the_recipes_and_runs_unless_one_is_named(
    recipe_file: Path, class_folder: Path, whole: Run, tmp_path: Path
) -> None:
    assert plain([recipe_file, whole.folder]) == Protocol(str(class_folder), "blocks", 5, (0, 1), None, ())
    other = tmp_path / "other.yaml"
    other.write_text("name: other\ndata: {dataset: covid-ct}\n")
    assert plain([other]).split == "official"
    assert plain([other], None, "random").split == "random"
    with pytest.raises(
        GroundglassError, match=f"{class_folder}, covid-ct: name one dataset for all with --data"
    ):
        plain([recipe_file, other])
    named = plain([recipe_file, other], "sarscov2-ct")
    assert (named.dataset, named.split) == ("sarscov2-ct", "blocks")
    with pytest.raises(
        GroundglassError,
        match=r"--set data.dataset=ccap: the comparison sets this for all systems; use --data",
    ):
        plain([recipe_file], None, None, "data.dataset=ccap")
    manifest = import_path(class_folder).assign(split="test")
    write_manifest(manifest, tmp_path / "divided.csv")
    assert plain([recipe_file], str(tmp_path / "divided.csv")).split == "blocks"  # nothing there trains


def test_an_unknown_split_is_refused_with_those_that_there_are(recipe_file: Path) -> None:
    with pytest.raises(GroundglassError, match=r"--split fair: unknown; there are official, grouped, blocks"):
        plain([recipe_file], None, "fair")


def test_without_a_test_part_all_are_evaluated_on_the_validation_part(
    class_folder: Path, tmp_path: Path
) -> None:
    manifest = import_path(class_folder)
    manifest["split"] = ["train", "train", "val"] * 16
    write_manifest(manifest, tmp_path / "two-parts.csv")
    official = Protocol(str(tmp_path / "two-parts.csv"), "official", 0, (0,), None, ())
    part, rows = official.judged_rows()
    assert part == "val"
    assert set(rows["path"]) == set(manifest["path"][manifest["split"] == "val"])
    with pytest.raises(
        GroundglassError, match=r"two-parts.csv: the split official leaves no part .*must have a test set"
    ):
        replace(official, folds=2).judged_rows()
    assert len(rows_of_test(replace(official, split="grouped"))) == 8
    manifest["split"] = "train"
    write_manifest(manifest, tmp_path / "two-parts.csv")
    with pytest.raises(
        GroundglassError,
        match=r"the split official leaves no part to evaluate on; choose another with --split",
    ):
        official.judged_rows()


def test_the_split_warns_once_for_all_trainings(protocol: Protocol, copy: Run, train: Train) -> None:
    with pytest.warns(LeakageWarning):
        protocol.judged_rows()
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        train()


def test_a_run_that_has_seen_the_patients_is_refused_unless_the_split_divides_them(
    copy: Run, protocol: Protocol
) -> None:
    test = rows_of_test(protocol)
    manifest = read_manifest(copy.manifest_file)
    manifest.loc[manifest["split"] == "train", "patient"] = "p1"
    write_manifest(manifest, copy.manifest_file)
    check_unseen(copy, "test", test)
    with pytest.raises(
        GroundglassError, match="chosen on 8 of the 8 slices that all systems are evaluated on, or on their"
    ):
        check_unseen(copy, "test", test.assign(patient="p1"))
    check_unseen(copy, "test", test.assign(patient="p1"), torn=True)


def test_a_guessed_block_that_the_split_cuts_through_is_no_patient(copy: Run, tmp_path: Path) -> None:
    manifest = read_manifest(copy.manifest_file).assign(patient="", source="sarscov2-ct", label="covid")
    files = [tmp_path / f"Covid ({number}).png" for number in range(1, len(manifest) + 1)]
    for file in files:
        file.touch()
    manifest["path"] = list(map(str, files))
    write_manifest(manifest, copy.manifest_file)
    rows = manifest[:1].assign(path=str(tmp_path / "Covid (21).webp"), split="test")
    trained = manifest[manifest["split"] == "train"]
    assert set(groups(rows)) & set(groups(trained))
    check_unseen(copy, "test", rows)


def test_an_unfinished_run_is_refused(copy: Run, train: Train) -> None:
    copy.update(state="trained")
    with pytest.raises(GroundglassError, match="is not finished; finish it first with --resume"):
        train([copy.folder])


def test_two_classes_of_all_recipes_are_those_of_the_comparison(class_folder: Path, tmp_path: Path) -> None:
    manifest = import_path(class_folder)
    others = manifest[manifest["label"] == "normal"].index[:12]
    manifest.loc[others, "label"] = "viral pneumonia"
    write_manifest(manifest, tmp_path / "three.csv")
    files = []
    for name, classes in (("a", "[normal, covid]"), ("b", "[covid, normal]"), ("c", "null")):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(f"name: {name}\ndata: {{dataset: {tmp_path}/three.csv, classes: {classes}}}\n")
    alike = plain(files[:2])
    assert alike.classes == ("covid", "normal")
    assert set(alike.judged_rows()[1]["label"]) == {"covid", "normal"}
    assert plain(files).classes == ()
    assert set(plain(files).judged_rows()[1]["label"]) == {"covid", "normal", "viral pneumonia"}


def test_what_a_recipe_needs_is_looked_for_before_another_is_trained(
    recipe_file: Path, tmp_path: Path, train: Train, no_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = tmp_path / "lacking.yaml"
    text = recipe_file.read_text().replace("name: tiny", "name: lacking")
    lacking.write_text(text.replace("channels: 1}", "channels: 1, lungs: mask, segmenter: runs/none}"))
    with pytest.raises(GroundglassError, match="runs/none"):
        train([recipe_file, lacking])
    lacking.write_text(text.replace("name: small-cnn,", "name: timm/resnet18, weights: imagenet,"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GroundglassError, match="timm/resnet18: its ImageNet weights cannot be downloaded"):
        train([recipe_file, lacking])


def test_a_run_on_a_substitute_is_known_again(
    copy: Run, protocol: Protocol, train: Train, recipe_file: Path, tmp_path: Path, no_training: None
) -> None:
    """Whether the weights are available now does not matter: they are not requested."""
    text = copy.recipe_file.read_text().replace("name: small-cnn", "name: timm/resnet18")
    copy.recipe_file.write_text(text.replace("\n  weights: none", "\n  weights: imagenet"))
    other = recipe_file.read_text().replace(
        "name: small-cnn,", "name: timm/vgg16, weights: imagenet, substitute: timm/resnet18,"
    )
    asking = tmp_path / "asking.yaml"
    asking.write_text(other)
    assert train([asking])[0].runs[0].folder == copy.folder
    asking.write_text(other.replace("timm/resnet18", "timm/resnet34"))
    with pytest.raises(GroundglassError, match=r"another recipe.*delete .* to train it again"):
        train([asking])
