import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from groundglass.bundle.store import kind_of_bundle
from groundglass.cli.app import app
from groundglass.commands.evaluate import choose_rows, evaluate_segmenter
from groundglass.commands.train import bundle_run, train
from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import read_manifest, write_manifest
from groundglass.errors import GroundglassError
from groundglass.evaluation.overlap import by_case, evaluate_overlap
from groundglass.evaluation.predictions import read_overlaps
from groundglass.phantom import write_phantom_set
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.report.slices import worst_slices
from groundglass.segment.segmenter import Segmenter, SegmenterBundle
from groundglass.train.masks import MaskedPart, load_masked_part
from groundglass.train.run import Run
from groundglass.train.tasks.segment import SegmenterModule, SegmentTask, _batches, _repeated
from segmenter_stub import threshold_segmenter

LOG = ["epoch", "train_loss", "val_loss", "val_lung_dice", "val_lesion_dice", "val_dice", "lr"]
RECIPE = """
task: segmentation
name: tiny-segmenter
description: A tiny segmenter for tests.
seed: 3
data: {{dataset: "{dataset}", split: grouped, fractions: [0.5, 0.25, 0.25]}}
preprocessing: {{size: [64, 64], channels: 1, clahe: 2.0}}
augmentation: {{flip: 0.5, crop: 0.3, window: 0.3, marks: 0.2, jpeg: 0.2, rotation: 5, noise: 0.02}}
model: {{name: unet, encoder: mobilenetv3_small_050, decoder: [16, 16, 8, 8, 8]}}
optimiser: {{name: adamw, lr: 0.01, backbone_factor: 0.5, clip_norm: 1.0}}
schedule: {{name: cosine, warmup_epochs: 0.5}}
training:
  epochs: 3
  batch_size: 8
  precision: "32"
  best_by: val_dice
  ema: 0.5
  smaller_first: {{epochs: 1, size: [32, 32]}}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of nine phantoms with masks, three of them without lesions."""
    folder = tmp_path_factory.mktemp("phantoms")
    rows = write_phantom_set(folder, count=9, shape=(10, 96, 96))
    write_manifest(pd.DataFrame(rows[::2]), folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE.format(dataset=dataset))
    return path


def quiet_train(recipe: Path, folder: Path, *overrides: str, **options: bool) -> Run:
    return train(recipe, overrides, folder, tell=lambda line: None, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> Run:
    return quiet_train(recipe_file, tmp_path_factory.mktemp("runs") / "tiny")


def recipe_of(run: Run) -> SegmentationRecipe:
    recipe = run.recipe()
    assert isinstance(recipe, SegmentationRecipe)
    return recipe


def checkpoint(run: Run, name: str) -> dict[str, object]:
    content: dict[str, object] = torch.load(run.checkpoints / f"{name}.ckpt", weights_only=False)
    return content


def test_a_run_holds_all_that_it_depends_on(trained: Run) -> None:
    names = {file.name for file in trained.folder.iterdir()}
    files = {"recipe.yaml", "run.json", "manifest.csv", "log.csv", "curves.png", "masks.csv", "report.html"}
    assert names == files | {"checkpoints", "bundle"}
    facts = trained.facts()
    assert (facts["state"], facts["seed"], facts["epochs_run"]) == ("finished", 3, 3)
    assert {"torch", "segmentation-models-pytorch", "opencv-python-headless"} <= set(facts["versions"])
    log = pd.read_csv(trained.log_file)
    assert log.columns.tolist() == LOG
    assert log["epoch"].tolist() == [1, 2, 3]
    assert log.notna().all(axis=None)
    np.testing.assert_allclose(
        log["val_dice"], (log["val_lung_dice"] + log["val_lesion_dice"]) / 2, rtol=1e-4
    )
    assert Image.open(trained.folder / "curves.png").size[0] > 300
    report = trained.report_file.read_text()
    assert "lung Dice, mean over cases" in report
    assert "they are too optimistic" in report
    assert report.count("<img") > 10


def test_a_network_learns_what_is_easy(trained: Run) -> None:
    log = pd.read_csv(trained.log_file)
    assert log["train_loss"].is_monotonic_decreasing
    assert log["train_loss"].iloc[-1] < 0.75 * log["train_loss"].iloc[0]
    assert log["val_loss"].iloc[-1] < log["val_loss"].iloc[0]


def test_the_table_of_masks_is_of_the_validation_part(trained: Run) -> None:
    table = read_overlaps(trained.folder / "masks.csv")
    manifest = read_manifest(trained.manifest_file)
    rows = manifest[manifest["split"] == "val"].set_index("path")
    assert table["path"].tolist() == [path for path in rows.index for _ in range(2)]
    assert table["case"].tolist() == rows.loc[table["path"], "patient"].tolist()
    for _, row in table.iterrows():
        masks = [np.asarray(Image.open(rows.loc[row["path"], name])) > 0 for name in ("lungs", "lesions")]
        true = masks[0] | masks[1] if row["structure"] == "lungs" else masks[1]
        assert row["true_px"] == true.sum()
    bundle = SegmenterBundle.load(trained.folder)
    segmenter = Segmenter(bundle)
    from groundglass.scan.read import read_scan

    path = table["path"].iloc[-1]
    found = segmenter(read_scan(path))
    assert table["predicted_px"].iloc[-2:].tolist() == [
        int(found.trusted_lungs.sum()),
        int(found.trusted_lesions.sum()),
    ]
    figures = bundle.facts.validation
    dice = by_case(table).query("structure == 'lungs'")["dice"].mean()
    assert figures.parts["lungs"].metrics["dice"].value == pytest.approx(dice)
    assert (figures.cases, figures.slices) == (rows["patient"].nunique(), len(rows))


def test_the_bundle_states_what_it_was_made_of(trained: Run) -> None:
    facts = SegmenterBundle.load(trained.folder).facts
    recipe, run_facts = recipe_of(trained), trained.facts()
    assert kind_of_bundle(trained.folder) == facts.kind == "segmenter"
    assert (facts.name, facts.preprocessing) == (recipe.name, recipe.preprocessing)
    assert facts.post_processing.lesion_threshold == run_facts["lesion_threshold"]
    assert facts.training.best_epoch == run_facts["best_epoch"]
    assert facts.training.fingerprint == run_facts["fingerprint"]
    assert facts.training.dataset == "manifest.csv"
    kept = {"kept": run_facts["best_epoch"], "of": 3}
    assert (facts.chosen[0].what, facts.chosen[0].values) == ("epoch", kept)
    assert str(facts.chosen[0]).endswith("; the best val_dice; on the validation set.")
    counts = read_manifest(trained.manifest_file)["split"].value_counts()
    assert {name: part.slices for name, part in facts.training.parts.items()} == counts.to_dict()


@pytest.mark.parametrize("by", ["val_dice", "val_loss", "last"])
def test_the_requested_epoch_is_kept(trained: Run, recipe_file: Path, tmp_path: Path, by: str) -> None:
    run = trained
    if by != "val_dice":
        # A rate so high that the loss fluctuates.
        overrides = (f"training.best_by={by}", "optimiser.lr=0.03", "training.smaller_first=null")
        run = quiet_train(recipe_file, tmp_path / "run", *overrides, "preprocessing.size=[32, 32]")
    log = pd.read_csv(run.log_file)
    best = {"last": 3}.get(by) or log["epoch"][log[by].argmin() if by == "val_loss" else log[by].argmax()]
    assert run.facts()["best_epoch"] == best
    assert (run.checkpoints / "best.ckpt").exists() == (by != "last")
    kept = checkpoint(run, "last" if by == "last" else "best")
    assert kept["epoch"] == best - 1
    module = SegmenterModule(recipe_of(run), np.zeros(0, dtype=np.intp))
    module.load_state_dict(kept["state_dict"])  # type: ignore[arg-type]
    bundle = SegmenterBundle.load(run.folder)
    size = bundle.facts.preprocessing.size
    grey8 = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)
    expected = module.probabilities(grey8)
    images = bundle.facts.preprocessing.model_input(grey8)
    (masks,) = onnxruntime.InferenceSession(bundle.graph).run(None, {"images": images})
    np.testing.assert_allclose(masks, expected, atol=0.01)
    report = run.report_file.read_text()
    assert ("the epoch that was kept is marked" in report) == (by != "last")


class StoppedError(Exception):
    """What stops a run in the tests."""


def stopped_train(recipe: Path, folder: Path, epoch: int) -> Run:
    """Train until an epoch has been logged, before its checkpoint is written."""

    def stop(line: str) -> None:
        if line.startswith(f"epoch {epoch}/"):
            raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe, (), folder, tell=stop)
    return Run(folder)


def test_a_stopped_run_is_resumed_to_the_same_result(trained: Run, recipe_file: Path, tmp_path: Path) -> None:
    run = stopped_train(recipe_file, tmp_path / "run", epoch=2)
    assert run.facts()["state"] == "started"
    assert len(pd.read_csv(run.log_file)) == 2
    assert checkpoint(run, "last")["epoch"] == 0
    quiet_train(recipe_file, run.folder, resume=True)
    assert run.log_file.read_text() == trained.log_file.read_text()
    for name in ("best", "last"):
        resumed, whole = (checkpoint(one, name)["state_dict"] for one in (run, trained))
        assert isinstance(resumed, dict)
        assert isinstance(whole, dict)
        assert resumed.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(resumed[key], value, rtol=0, atol=0)
    for name in ("masks.csv", "bundle/bundle.json"):
        assert (run.folder / name).read_text() == (trained.folder / name).read_text()


def test_a_run_stopped_in_its_first_epoch_says_how_to_continue(recipe_file: Path, tmp_path: Path) -> None:
    run = stopped_train(recipe_file, tmp_path / "run", epoch=1)
    with pytest.raises(GroundglassError, match=r"before its first epoch .*--overwrite"):
        quiet_train(recipe_file, run.folder, resume=True)
    with pytest.raises(GroundglassError, match="has no checkpoint"):
        bundle_run(run.folder, None)


def test_a_run_is_exported_again(trained: Run, tmp_path: Path) -> None:
    before = SegmenterBundle.load(trained.folder)
    zipped = SegmenterBundle.load(bundle_run(trained.folder, tmp_path / "x.zip"))
    assert (zipped.facts, zipped.graph, zipped.recipe) == (before.facts, before.graph, before.recipe)
    assert bundle_run(trained.folder, None) == trained.bundle_folder


def test_a_run_that_was_stopped_can_be_exported(recipe_file: Path, tmp_path: Path) -> None:
    run = stopped_train(recipe_file, tmp_path / "run", epoch=2)
    bundle_run(run.folder, None)
    facts = SegmenterBundle.load(run.folder).facts
    assert facts.chosen[0].values == {"kept": 1, "of": 2}


@dataclass
class Seen:
    """Sizes of the inputs that a network received."""

    sizes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self.sizes.append(tuple(inputs[0].shape[2:]))


@pytest.fixture
def module_and_batch(trained: Run) -> Iterator[tuple[SegmenterModule, tuple[torch.Tensor, ...], Seen]]:
    recipe = recipe_of(trained)
    part = load_masked_part(read_manifest(trained.manifest_file), "val", recipe.preprocessing)
    module = SegmenterModule(recipe, np.arange(4))
    batch = torch.arange(4), torch.from_numpy(part.grey[:4]), torch.from_numpy(part.masks[:4])
    seen = Seen()
    handle = module.model.register_forward_pre_hook(seen)
    yield module, batch, seen
    handle.remove()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_the_first_epochs_are_smaller_and_validation_is_not(
    module_and_batch: tuple[SegmenterModule, tuple[torch.Tensor, torch.Tensor, torch.Tensor], Seen],
) -> None:
    module, batch, seen = module_and_batch
    assert [module.preprocessing_at(epoch).size for epoch in range(3)] == [(32, 32), (64, 64), (64, 64)]
    module.training_step(batch, 0)  # without a trainer it is epoch 0
    module.validation_step(batch, 0)
    assert seen.sizes == [(32, 32), (64, 64)]


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_batches_stay_where_they_are_augmented(
    module_and_batch: tuple[SegmenterModule, tuple[torch.Tensor, torch.Tensor, torch.Tensor], Seen],
) -> None:
    """On a GPU, Lightning would move them there, from where numpy cannot read them."""
    module, batch, _ = module_and_batch
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {part.device.type for part in moved} == {"cpu"}
    first, second = (module.training_step(moved, 0).item() for _ in range(2))
    assert first == second


def test_validation_means_dice_over_cases(
    trained: Run,
    module_and_batch: tuple[SegmenterModule, tuple[torch.Tensor, torch.Tensor, torch.Tensor], Seen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, (rows, grey, masks), _ = module_and_batch
    module = SegmenterModule(recipe_of(trained), np.array([0, 1, 1, 0])).eval()
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value: logged.update({name: value}))
    for part in (slice(0, 3), slice(3, 4)):
        module.validation_step((rows[part], grey[part], masks[part]), 0)
    module.on_validation_epoch_end()
    found = module.probabilities(grey.numpy()) > 0.5
    truth = masks.permute(0, 3, 1, 2).numpy() > 0
    dice = [
        [
            2 * (found & truth)[case, s].sum() / (found[case, s].sum() + truth[case, s].sum())
            for case in ([0, 3], [1, 2])
        ]
        for s in (0, 1)
    ]
    expected = [float(np.mean(one)) for one in dice]
    assert expected[0] != pytest.approx(expected[1])
    assert [logged["val_lung_dice"], logged["val_lesion_dice"]] == pytest.approx(expected)
    assert logged["val_dice"] == pytest.approx(np.mean(expected))
    assert logged["val_loss"] > 0


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_dropout_depends_on_seed_and_step_alone(
    trained: Run,
    module_and_batch: tuple[SegmenterModule, tuple[torch.Tensor, torch.Tensor, torch.Tensor], Seen],
) -> None:
    recipe = recipe_of(trained)
    model = recipe.model.model_copy(update={"name": "bcdunet", "filters": 4})
    module = SegmenterModule(recipe.model_copy(update={"model": model}), np.arange(4))
    losses = []
    for step in (0, 0, 1):
        torch.rand(3)  # whatever happens in between
        losses.append(module.training_step(module_and_batch[1], step).item())
    assert losses[0] == losses[1] != losses[2]


def test_a_run_starts_from_the_weights_of_another(trained: Run, recipe_file: Path, tmp_path: Path) -> None:
    start = f"training.start_from={trained.folder}"
    still = ("training.epochs=1", "training.smaller_first=null", "optimiser.lr=1e-12", "training.ema=null")
    run = quiet_train(recipe_file, tmp_path / "second", start, *still)
    first, second = pd.read_csv(trained.log_file), pd.read_csv(run.log_file)
    kept = first["val_dice"].max()
    assert second["val_dice"].iloc[0] == pytest.approx(kept, abs=0.15)
    assert second["train_loss"].iloc[0] < first["train_loss"].iloc[0]
    assert SegmenterBundle.load(run.folder).facts.chosen[0].values == {
        "weights of": "tiny",
        "share kept": 0.0,
    }
    with pytest.raises(GroundglassError, match="its network differs"):
        quiet_train(recipe_file, tmp_path / "third", start, *still, "model.decoder=[8, 8, 8, 8, 8]")


def test_bcdunet_is_trained_too(recipe_file: Path, tmp_path: Path) -> None:
    overrides = ("model={name: bcdunet, filters: 4}", "preprocessing.size=[32, 32]", "training.epochs=2")
    run = quiet_train(recipe_file, tmp_path / "run", *overrides, "training.smaller_first=null")
    log = pd.read_csv(run.log_file)
    assert log["train_loss"].iloc[1] < log["train_loss"].iloc[0]
    bundle = SegmenterBundle.load(run.folder)
    assert bundle.facts.preprocessing.size == (32, 32)
    segmenter = SegmentTask(recipe_of(run)).kept(run)
    assert segmenter.probabilities(np.zeros((9, 32, 32), np.uint8)).shape == (9, 2, 32, 32)
    assert len(read_overlaps(run.folder / "masks.csv")) > 10


def test_a_dataset_without_masks_is_refused(recipe_file: Path, class_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        GroundglassError, match="no column lungs and no column lesions: a segmenter is trained on"
    ):
        quiet_train(recipe_file, tmp_path / "run", f"data.dataset={class_folder}", "data.split=random")


@pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
def test_a_segmenter_is_not_evaluated_on_a_dataset_without_masks(
    trained: Run, class_folder: Path, tmp_path: Path
) -> None:
    segmenter = Segmenter.load(trained.folder)
    labelled = choose_rows(segmenter.bundle, str(class_folder), None)
    with pytest.raises(GroundglassError, match="has no masks"):
        evaluate_segmenter(segmenter, labelled, tmp_path)


def test_evaluate_measures_masks_and_records_the_figures(trained: Run, dataset: Path, tmp_path: Path) -> None:
    where = ["-b", str(trained.folder), "--data", str(dataset), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", *where, "--record"], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "The test set of the dataset" in done.stderr
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "masks.csv",
        "metrics.json",
        "report.html",
    }
    table = read_overlaps(tmp_path / "out" / "masks.csv")
    manifest = read_manifest(trained.manifest_file)
    test = manifest[manifest["split"] == "test"]
    assert set(table["path"]) == set(test["path"])
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["part"], metrics["external"], metrics["warnings"]) == ("test", False, [])
    assert metrics["bundle"]["name"] == "tiny-segmenter"
    assert metrics["parts"] == evaluate_overlap(table).to_dict()["parts"]
    dice = f"{metrics['parts']['lungs']['metrics']['dice']['value']:.3f}"
    assert dice in done.stdout
    assert dice in (tmp_path / "out" / "report.html").read_text()
    (recorded,) = SegmenterBundle.load(trained.folder).facts.evaluations
    assert (recorded.dataset, recorded.part, recorded.slices.slices) == ("manifest", "test", len(test))
    assert recorded.slices.to_dict()["parts"] == metrics["parts"]


def test_a_runs_own_manifest_is_never_external(trained: Run, dataset: Path, tmp_path: Path) -> None:
    """Even if no source is named."""
    own = tmp_path / "own.csv"
    write_manifest(load_dataset(dataset).assign(source=""), own)
    bundle = SegmenterBundle.load(trained.folder)
    training = bundle.facts.training.model_copy(update={"sources": (), "dataset": own.name})
    bundle.facts = bundle.facts.model_copy(update={"training": training})
    labelled = choose_rows(bundle, str(own), None)
    assert (labelled.external, labelled.part, labelled.warnings) == (False, "test", ())
    assert "too optimistic" in choose_rows(bundle, str(own), "all").warnings[0]
    other = tmp_path / "other.csv"
    write_manifest(load_dataset(dataset).assign(source="elsewhere"), other)
    assert choose_rows(SegmenterBundle.load(trained.folder), str(other), None).external


def test_slices_without_lesions_that_are_left_alone_are_not_the_worst() -> None:
    rows = [("bad", 10, 10, 1), ("missed", 5, 0, 0), ("none", 0, 0, 0), ("good", 9, 9, 9), ("false", 0, 3, 0)]
    table = pd.DataFrame(
        [
            {
                "path": path,
                "structure": structure,
                "true_px": true,
                "predicted_px": predicted,
                "common_px": common,
            }
            for path, true, predicted, common in rows
            for structure in ("lungs", "lesions")
        ]
    )
    assert [path.name for path in worst_slices(table)] == ["missed", "false", "bad", "good"]


def test_a_segmenter_of_lesion_types_learns_from_mixed_masks(dataset: Path, tmp_path: Path) -> None:
    """Some slices have types, some lesions without a type, some no mask but no lesion, and some nothing."""
    rows = read_manifest(dataset)
    finder = threshold_segmenter(tmp_path / "finder")
    marked = np.flatnonzero([np.asarray(Image.open(path)).any() for path in rows["lesions"]])
    rows["lesion_types"] = ""
    for number in marked[::3]:
        lesions = np.asarray(Image.open(rows.loc[number, "lesions"])) > 127
        types = np.where(lesions, 127, 0).astype(np.uint8)
        types[: types.shape[0] // 2] *= 2
        path = tmp_path / f"types-{number}.png"
        Image.fromarray(types).save(path)
        rows.loc[number, ["lungs", "lesions", "lesion_types"]] = ["", "", str(path)]
    free = [number for number in rows.index if number not in set(marked)]
    rows.loc[free[::4], ["lungs", "lesions"]] = ["", "none"]
    rows.loc[free[1::4], ["lungs", "lesions"]] = ["", ""]
    write_manifest(rows, tmp_path / "mixed.csv")
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(RECIPE.format(dataset=tmp_path / "mixed.csv"))
    sets = ("model.lesion_types=true", f"training.lungs_from={finder}", "augmentation.focus=0.5")
    run = quiet_train(recipe, tmp_path / "run", *sets)
    taught = run.facts()["taught"]
    assert 0 < taught["consolidation"] < taught["lesions"] == taught["slices"]
    assert 0 < taught["lungs"] < taught["slices"]
    assert read_manifest(run.manifest_file)["split"].eq("train").sum() > taught["slices"]
    assert pd.read_csv(run.log_file)["train_loss"].is_monotonic_decreasing
    bundle = SegmenterBundle.load(run.folder)
    assert bundle.facts.outputs == ("lungs", "ground glass", "consolidation")
    assert set(read_overlaps(run.folder / "masks.csv")["structure"]) == {"lungs", "lesions"}


def test_slices_of_a_small_source_are_repeated() -> None:
    rows = pd.DataFrame({"path": ["a", "b", "c"], "source": ["large", "small", "large"]})
    grey = np.arange(3, dtype=np.uint8)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
    part = MaskedPart(rows, grey, np.zeros((3, 4, 4, 2), dtype=np.uint8))
    numbers, greys, _ = _batches(_repeated(part, {"small": 3}))[[0, 1, 2, 3, 4]]
    assert greys[:, 0, 0].tolist() == [0, 1, 1, 1, 2]
    assert len(set(numbers.tolist())) == 5, "each is augmented differently"
    with pytest.raises(GroundglassError, match=r"training.repeat tiny: .* there are large, small"):
        _repeated(part, {"tiny": 2})
