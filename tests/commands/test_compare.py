import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps
from sklearn.metrics import roc_auc_score

from groundglass.bundle.evaluation import METRICS
from groundglass.commands.compare import ComparisonResult, compare_systems
from groundglass.commands.system_runs import Protocol
from groundglass.data.manifest import import_path, read_manifest, write_manifest
from groundglass.errors import GroundglassError
from groundglass.evaluation.comparison import ENSEMBLE
from groundglass.evaluation.comparison_report import headline
from groundglass.evaluation.metrics import evaluate
from groundglass.evaluation.predictions import read_predictions
from groundglass.train.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")

FEATURES = """
task: features
name: features
data: {{dataset: "{dataset}"}}
preprocessing: {{size: [64, 64], channels: 3}}
model: {{name: timm/test_efficientnet, weights: none}}
classifiers: [logistic]
folds: 3
"""


@dataclass
class Done:
    """A finished comparison, and its inputs."""

    items: list[Path]
    protocol: Protocol
    folder: Path
    elsewhere: Path
    outcome: ComparisonResult
    told: list[str]


@pytest.fixture(scope="module")
def elsewhere(class_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other pictures from another source."""
    root = tmp_path_factory.mktemp("data") / "elsewhere"
    for label in ("covid", "normal"):
        (root / label).mkdir(parents=True)
        for number in range(6):
            with Image.open(class_folder / label / f"{number}.png") as picture:
                ImageOps.mirror(picture).save(root / label / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def done(
    recipe_file: Path, class_folder: Path, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """Two systems of two seeds; one of them never answers covid."""
    folder = tmp_path_factory.mktemp("compared")
    never = folder / "never.yaml"
    threshold = "\noperating_point: {criterion: fixed, target: 0.999999}"
    text = recipe_file.read_text().replace("name: tiny", "name: never").replace("[8, 8]", "[4]")
    never.write_text(text + threshold)
    protocol = Protocol(str(class_folder), "grouped", 0, (0, 1), None, ())
    told: list[str] = []
    items = [recipe_file, never]
    outcome = compare_systems(items, protocol, folder / "out", external=[str(elsewhere)], tell=told.append)
    return Done(items, protocol, folder / "out", elsewhere, outcome, told)


@pytest.fixture
def copy(done: Done, tmp_path: Path) -> Done:
    return replace(done, folder=Path(shutil.copytree(done.folder, tmp_path / "out")))


@pytest.fixture
def trained_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders that are trained from here on."""
    from groundglass.commands import train

    names: list[str] = []
    real = train.train_recipe

    def spy(recipe: object, run: Run, **options: object) -> None:
        names.append(run.folder.name)
        real(recipe, run, **options)

    monkeypatch.setattr(train, "train_recipe", spy)
    return names


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the datasets that are answered from here on."""
    from groundglass.commands import system_runs

    names: list[str] = []
    real = system_runs.predict_rows
    monkeypatch.setattr(system_runs, "predict_rows", lambda *given: names.append(given[3]) or real(*given))
    return names


def again(
    which: Done, items: Sequence[Path] | None = None, external: Sequence[Path] = ()
) -> ComparisonResult:
    return compare_systems(
        which.items if items is None else items,
        which.protocol,
        which.folder,
        external=[str(path) for path in external],
        tell=lambda line: None,
    )


def members_of(done: Done, system: str, dataset: str) -> list[pd.DataFrame]:
    files = sorted((done.folder / "answers").glob(f"{system}-seed*-on-{dataset}-*.csv"))
    return [read_predictions(file) for file in files]


def numbers_of(done: Done) -> pd.DataFrame:
    return pd.read_csv(done.folder / "comparison.csv").set_index(["dataset", "system"])


def untimed(done: Done) -> pd.DataFrame:
    return numbers_of(done).drop(columns="slices_per_second")


def test_everything_promised_is_written(done: Done) -> None:
    assert {path.name for path in done.folder.iterdir()} == {
        "all-wrong.csv", "answers", "comparison.csv", "comparison.html", "comparison.md", "figures", "runs",
    }  # fmt: skip
    assert {path.name for path in (done.folder / "figures").iterdir()} == {
        "agreement.png", "curves.png", "home-and-elsewhere.png", "intervals.png", "intervals-elsewhere.png",
        "roc.png", "roc-elsewhere.png",
    }  # fmt: skip
    for picture in (done.folder / "figures").iterdir():
        with Image.open(picture) as image:
            assert min(image.size) > 200
    runs = {f"{system}-seed{seed}" for system in ("tiny", "never") for seed in (0, 1)}
    assert {path.name for path in (done.folder / "runs").iterdir()} == runs
    name = done.outcome.judged[0].name
    answers = [path.name.rpartition("-")[0] for path in (done.folder / "answers").iterdir()]
    assert sorted(answers) == sorted(f"{run}-on-{where}" for run in runs for where in (name, "elsewhere"))


def test_every_member_has_the_same_split_and_its_own_seed(done: Done) -> None:
    runs = [Run(path) for path in sorted((done.folder / "runs").iterdir())]
    splits = [read_manifest(run.manifest_file).set_index("path")["split"].to_dict() for run in runs]
    assert all(split == splits[0] for split in splits)
    assert [run.facts()["seed"] for run in runs] == [0, 1, 0, 1]
    assert len({run.log_file.read_text() for run in runs}) == 4


def test_progress_is_reported(done: Done) -> None:
    assert [line for line in done.told if "epoch" not in line] == [
        *[f"{system}-seed{seed}: trained" for system in ("tiny", "never") for seed in (0, 1)],
        f"Running on 8 slices of {done.outcome.judged[0].name}.",
        "Running on 12 slices of elsewhere.",
    ]
    assert sum(line.startswith("never-seed1  epoch ") for line in done.told) == 4


def test_the_numbers_are_those_of_an_evaluation_of_the_answers(done: Done) -> None:
    table = numbers_of(done)
    test = read_manifest(done.folder / "runs" / "tiny-seed0" / "manifest.csv").query("split == 'test'")
    own = done.outcome.judged[0].name
    for dataset, count, part in ((own, len(test), "test"), ("elsewhere", 12, "all")):
        for system in ("tiny", "never"):
            row, members = table.loc[(dataset, system)], members_of(done, system, dataset)
            assert (row["members"], row["part"], len(members)) == (2, part, 2)
            assert {len(member) for member in members} == {count}
            each = [evaluate(member, resamples=2).metrics for member in members]
            for name in METRICS:
                values = [figures[name].value for figures in each]
                expected = np.nan if None in values else np.mean(values)
                assert row[name] == pytest.approx(expected, rel=1e-5, nan_ok=True), name
            aucs = [roc_auc_score(member["label"] == "covid", member["probability"]) for member in members]
            assert (row["roc_auc_least"], row["roc_auc_greatest"]) == pytest.approx((min(aucs), max(aucs)))
    assert set(members_of(done, "tiny", own)[0]["path"]) == set(test["path"])


def test_the_ensemble_is_the_mean_of_all_systems(done: Done) -> None:
    own = done.outcome.judged[0].name
    members = [members_of(done, system, own) for system in ("tiny", "never")]
    means = [np.mean([member["probability"] for member in of_one], axis=0) for of_one in members]
    truth = members[0][0]["label"] == "covid"
    row = numbers_of(done).loc[(own, ENSEMBLE)]
    assert row["roc_auc"] == pytest.approx(roc_auc_score(truth, np.mean(means, axis=0)))
    assert pd.isna(row["slices_per_second"])


def test_the_cost_of_a_system_is_next_to_its_figures_on_the_test_part(done: Done) -> None:
    table = numbers_of(done)
    for system in ("tiny", "never"):
        row = table.loc[(done.outcome.judged[0].name, system)]
        run = Run(done.folder / "runs" / f"{system}-seed0")
        assert row["parameters"] == run.facts()["parameters"] > 10
        assert row["megabytes"] == pytest.approx((run.bundle_folder / "model.onnx").stat().st_size / 1e6)
        facts = [Run(path).facts() for path in (done.folder / "runs").glob(f"{system}-seed*")]
        assert row["training_seconds"] == pytest.approx(np.mean([fact["seconds"] for fact in facts]))
        assert row["slices_per_second"] > 0


def test_the_markdown_shows_tables_and_figures_that_are_there(done: Done) -> None:
    text = (done.folder / "comparison.md").read_text()
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert {Path(name).name for name in linked} == {path.name for path in (done.folder / "figures").iterdir()}
    assert all((done.folder / name).is_file() for name in linked)
    assert headline(done.outcome.judged[0].comparison) in text
    assert "medical device" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows].count("never") == 2
    assert {len(row) for row in rows} == {13, 9}
    assert "## elsewhere, external, not used for training (12 slices)" in text


def test_the_page_holds_all_it_shows(done: Done) -> None:
    page = (done.folder / "comparison.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 7
    assert "elsewhere, external, not used for training (12 slices)" in page
    assert "split grouped with seed 0; recipes were trained with seeds 0, 1" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    for judged in done.outcome.judged:
        assert all(note.split("'")[0] in page for note in judged.comparison.notes)


def test_nothing_is_trained_or_answered_a_second_time(
    copy: Done, trained_runs: list[str], answered: list[str]
) -> None:
    first = untimed(copy)
    again(copy, external=[copy.elsewhere])
    assert (trained_runs, answered) == ([], [])
    pd.testing.assert_frame_equal(untimed(copy), first)


def test_only_the_new_is_trained_where_a_system_and_a_seed_are_added(
    copy: Done, class_folder: Path, trained_runs: list[str], answered: list[str]
) -> None:
    features = copy.folder.parent / "features.yaml"
    features.write_text(FEATURES.format(dataset=class_folder))
    own = copy.outcome.judged[0].name
    copy.protocol = replace(copy.protocol, seeds=(0,))
    outcome = again(copy, [*copy.items, features])
    assert trained_runs == ["features-seed0"]
    assert answered == [own]
    table = numbers_of(copy)
    assert set(table.index) == {(own, name) for name in ("tiny", "never", "features", ENSEMBLE)}
    assert set(table["members"]) == {1}
    assert outcome.cost["features"].parameters is None
    assert outcome.cost["features"].texts()[0] == ""


def test_a_finished_run_is_compared_as_it_is(
    copy: Done, trained_runs: list[str], answered: list[str]
) -> None:
    run = Path(shutil.copytree(copy.folder / "runs" / "tiny-seed1", copy.folder.parent / "mine"))
    again(copy, [copy.items[1], run])
    assert trained_runs == []
    assert len(answered) == 1  # the run has another name
    own = copy.outcome.judged[0].name
    table = numbers_of(copy)
    assert table.loc[(own, "never"), "members"] == 2
    assert table.loc[(own, "mine"), "members"] == 1
    expected = evaluate(members_of(copy, "tiny", own)[1], resamples=2).metrics
    assert table.loc[(own, "mine"), "roc_auc"] == pytest.approx(expected["roc_auc"].value)
    assert table.loc[(own, "mine"), "brier"] == pytest.approx(expected["brier"].value, rel=1e-5)
    assert "Trained only once" in (copy.folder / "comparison.md").read_text()


def test_without_a_test_part_the_page_says_that_figures_are_too_optimistic(
    class_folder: Path, tmp_path: Path, done: Done
) -> None:
    manifest = import_path(class_folder)
    manifest["split"] = ["train", "train", "val"] * 16
    write_manifest(manifest, tmp_path / "two-parts.csv")
    protocol = replace(
        done.protocol,
        dataset=str(tmp_path / "two-parts.csv"),
        split="official",
        seeds=(0,),
        changes=("training.epochs=1",),
    )
    folder = tmp_path / "out"
    outcome = compare_systems(done.items[:1], protocol, folder, tell=lambda line: None)
    judged = outcome.judged[0]
    assert (judged.part, judged.external, judged.comparison.count) == ("val", False, 16)
    (answers,) = (folder / "answers").iterdir()
    own = pd.read_csv(folder / "runs" / "tiny-seed0" / "predictions.csv")
    given = read_predictions(answers)
    assert roc_auc_score(given["label"] == "covid", given["probability"]) == pytest.approx(
        roc_auc_score(own["label"] == "covid", own["probability"])
    )
    for name in ("comparison.html", "comparison.md"):
        assert (
            "two-parts, validation set, on which epochs and thresholds were chosen: too optimistic"
            in (folder / name).read_text()
        )


def test_slices_that_all_get_wrong_are_listed_and_shown(copy: Done) -> None:
    outcome = again(copy, [copy.items[1]])
    members = members_of(copy, "never", outcome.judged[0].name)
    assert all("covid" not in set(member["verdict"]) for member in members)
    truth = members[0].query("label == 'covid'")
    wrong = pd.read_csv(copy.folder / "all-wrong.csv").set_index("path")
    assert set(wrong.index) == set(truth["path"])
    assert set(wrong["label"]) == {"covid"}
    mean = np.mean([member.set_index("path")["probability"] for member in members], axis=0)
    expected = pd.Series(mean, members[0]["path"])[wrong.index]
    assert wrong["never"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    for name in ("comparison.html", "comparison.md"):
        text = (copy.folder / name).read_text()
        assert f"Slices that every system gets wrong: {len(truth)} of {len(members[0])}" in text
        assert all(Path(path).name in text for path in wrong.index)
    assert "compared with no other" in headline(outcome.judged[0].comparison)


def test_a_slice_is_wrong_by_all_where_most_members_of_every_system_are(done: Done) -> None:
    own = done.outcome.judged[0].name
    expected = []
    for system in ("tiny", "never"):
        members = members_of(done, system, own)
        wrong = [(member["verdict"] == "covid") != (member["label"] == "covid") for member in members]
        expected.append(set(members[0]["path"][np.mean(wrong, axis=0) > 0.5]))
    assert len(expected[1]) == 4
    assert set(pd.read_csv(done.folder / "all-wrong.csv")["path"]) == set.intersection(*expected)


@pytest.fixture
def refused(done: Done, tmp_path: Path, trained_runs: list[str]) -> Callable[..., str]:
    """The error of a comparison that is refused before training or writing."""

    def refused(
        items: Sequence[Path] = done.items,
        external: Sequence[object] = (),
        protocol: Protocol = done.protocol,
    ) -> str:
        folder = tmp_path / "refused"
        with pytest.raises(GroundglassError) as caught:
            compare_systems(
                items, protocol, folder, external=[str(name) for name in external], tell=lambda line: None
            )
        assert trained_runs == []
        assert not folder.exists()
        return str(caught.value)

    return refused


def test_a_run_trained_on_test_slices_is_refused_by_name(
    done: Done, trained: Path, refused: Callable[..., str]
) -> None:
    manifest = read_manifest(trained / "manifest.csv")
    used = set(manifest[manifest["split"] != "test"]["path"])
    common = len(used & set(done.protocol.judged_rows()[1]["path"]))
    told = f"{trained}: was trained or chosen on {common} of the 8 slices"
    assert refused([done.items[1], trained]).startswith(told)


def test_a_run_trained_on_an_external_set_is_refused_by_name(copy: Done, refused: Callable[..., str]) -> None:
    run = Run(copy.folder / "runs" / "tiny-seed0")
    write_manifest(import_path(copy.elsewhere).assign(split="train"), run.manifest_file)
    told = refused([copy.items[1], run.folder], [copy.elsewhere])
    assert told.startswith(f"{run.folder}: was trained or chosen on 12 of the 12 slices")


def test_what_is_of_the_training_data_or_its_source_is_not_external(
    class_folder: Path, elsewhere: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    named = tmp_path / "named.csv"
    write_manifest(import_path(elsewhere, source=class_folder.name), named)
    told = refused(external=[named])
    assert told.startswith(f"{named}: comes from {class_folder.name} like the training data")
    write_manifest(import_path(class_folder, source="another").iloc[::4], named)
    assert "named.csv: 12 of its 12 slices are in the training data" in refused(external=[named])


def test_external_sets_need_both_classes_and_names_of_their_own(
    elsewhere: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    one_class = tmp_path / "one-class.csv"
    write_manifest(import_path(elsewhere).query("label == 'covid'"), one_class)
    told = refused(external=[one_class])
    assert told.startswith(
        f"{one_class}: all 6 slices to evaluate on are labelled covid; slices with and without"
    )
    assert "another dataset is also named elsewhere" in refused(external=[elsewhere, elsewhere])
    assert "no dataset has this name" in refused(external=["nowhere"])


def test_a_test_part_of_one_class_is_refused(
    class_folder: Path, tmp_path: Path, done: Done, refused: Callable[..., str]
) -> None:
    manifest = import_path(class_folder)
    manifest["split"] = ["train", "val"] * 24
    manifest.loc[manifest.index[:4], "split"] = "test"
    write_manifest(manifest, tmp_path / "official.csv")
    official = replace(done.protocol, dataset=str(tmp_path / "official.csv"), split="official")
    assert "official.csv: all 4 slices to evaluate on are labelled covid" in refused(protocol=official)


def test_patients_are_compared_where_they_are_named(copy: Done, class_folder: Path) -> None:
    manifest = import_path(copy.elsewhere)
    number = manifest["path"].map(lambda path: int(Path(path).stem) // 2)
    named = copy.folder.parent / "named.csv"
    write_manifest(manifest.assign(patient=manifest["label"] + number.astype(str)), named)
    own, other = again(copy, external=[named]).judged
    assert own.patients == "no slice names its patient: fill the column patient to get figures by patient"
    assert not isinstance(other.patients, str)
    assert (other.patients.unit, other.patients.count, other.patients.positives) == ("patient", 6, 3)
    table = numbers_of(copy).loc["named"].set_index("unit", append=True)
    expected = [
        roc_auc_score(by["label"].first() == "covid", by["probability"].mean())
        for by in (member.groupby("patient") for member in members_of(copy, "tiny", "named"))
    ]
    assert table.loc[("tiny", "patient"), "roc_auc"] == pytest.approx(np.mean(expected), rel=1e-5)
    for name in ("comparison.html", "comparison.md"):
        text = (copy.folder / name).read_text()
        assert "named, external, not used for training (6 patients)" in text
        assert "Patients are not compared: no slice names its patient" in text
