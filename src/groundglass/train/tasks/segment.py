"""Segmentation: a network that marks lungs and lesions."""

import hashlib
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from groundglass import __version__
from groundglass.bundle.facts import Choice
from groundglass.bundle.fingerprints import Fingerprints
from groundglass.data.manifest import read_manifest
from groundglass.errors import GroundglassError
from groundglass.evaluation.overlap import evaluate_overlap
from groundglass.evaluation.predictions import read_overlaps, write_overlaps
from groundglass.preprocess import Preprocessing
from groundglass.recipe.recipe import dump_recipe
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.segment.masks import PostProcessing
from groundglass.segment.segmenter import Segmenter, SegmenterBundle, SegmenterFacts
from groundglass.train.augment import PictureAugment
from groundglass.train.export import (
    VALIDATION,
    check_difference,
    halve_weights,
    kept_epoch,
    onnx_graph,
    run_graph,
    training_facts,
)
from groundglass.train.fit import Fit, kept_weights
from groundglass.train.losses import UNKNOWN, MaskLoss, lungs_and_lesions, mask_probabilities
from groundglass.train.masks import PLANES, MaskedPart, case_codes, load_masked_part
from groundglass.train.module import Batch, TaskModule
from groundglass.train.overlaps import overlaps
from groundglass.train.run import Run
from groundglass.train.segmentation_models import build_segmentation_model, outputs_of
from groundglass.train.slices import Slices, make_loader
from groundglass.train.task import Task

LOGGED = ("train_loss", "val_loss", "val_lung_dice", "val_lesion_dice", "val_dice")
"""The metrics of each epoch in a segmenter's log."""
AUGMENTING = 2
"""Number of threads that augment a batch: OpenCV and numpy release Python's global interpreter lock."""
TOLERANCE = {"f32": 0.005, "bf16": 0.03}
"""Largest mean difference of a probability between torch and the exported graph, by the graph's precision."""
DOUBTFUL = 0.02
"""Pixels with lower probabilities are not compared: they are the majority and would hide differences elsewhere."""
HEAD = "segmentation_head."
"""The last convolution, in the names of weights."""
THRESHOLDS = np.arange(0.2, 0.71, 0.05)
"""Candidates for the lesion threshold; the best on the validation set is chosen."""


class SegmenterModule(TaskModule):
    """A segmenter with its recipe's loss and augmentation.

    Parameters
    ----------
    recipe
        The recipe.
    cases
        The case of each slice of the validation set, numbered from 0.
    """

    def __init__(self, recipe: SegmentationRecipe, cases: NDArray[np.intp]) -> None:
        model = build_segmentation_model(recipe.model, recipe.preprocessing.channels)
        super().__init__(recipe, model, recipe.training.epochs)
        self.smaller = recipe.training.smaller_first
        self.augment = PictureAugment(recipe.augmentation)
        self.loss = MaskLoss(recipe.loss)
        self._cases = cases
        self._counts: list[NDArray[np.float64]] = []
        self._losses: list[float] = []

    def preprocessing_at(self, epoch: int) -> Preprocessing:
        """The preprocessing of an epoch: the recipe's, at its smaller size in the first epochs."""
        if self.smaller is None or epoch >= self.smaller.epochs:
            return self.preprocessing
        return self.preprocessing.model_copy(update={"size": self.smaller.size})

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave a batch on the CPU, which augments it; :meth:`grey` moves what the network sees."""
        return batch

    def training_loss(self, batch: Batch, step: int) -> Tensor:
        """Loss of one batch, augmented; each slice's draw depends on seed, epoch and row alone."""
        rows, grey8, masks = (part.numpy() for part in batch)
        epoch = self.current_epoch
        preprocessing = self.preprocessing_at(epoch)

        def draw(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            seed = (self.seed, epoch, int(rows[number]))
            return self.augment(grey8[number], masks[number], preprocessing, seed)

        with ThreadPoolExecutor(AUGMENTING) as pool:
            drawn = list(pool.map(draw, range(len(rows))))
        images = self._images8(np.stack([grey for grey, _ in drawn]))
        truth = torch.from_numpy(np.stack([mask for _, mask in drawn])).to(self.device)
        logits = self.model(images)
        with torch.autocast(self.device.type, enabled=False):
            loss: Tensor = self.loss(logits.float(), truth)
        return loss

    def _images8(self, grey8: NDArray[np.uint8]) -> Tensor:
        return self.images(self.grey(torch.from_numpy(grey8)))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the pixels of mask, truth and both, in 32 bits regardless of the training precision."""
        _, grey8, masks = batch
        truth = masks.permute(0, 3, 1, 2).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            logits = self.model(self.images(self.grey(grey8)))
            self._losses += [float(self.loss(logits, truth))] * len(grey8)
        truth, known = truth[:, :2] % UNKNOWN > 0, (truth[:, :2] < UNKNOWN).all(dim=(2, 3))
        found = lungs_and_lesions(logits) > 0
        parts = [(found & truth), found, truth]
        counts = (
            torch.stack([part.sum(dim=(2, 3)) for part in parts], dim=-1).cpu().numpy().astype(np.float64)
        )
        counts[~known.cpu().numpy()] = np.nan
        self._counts.append(counts)

    def on_validation_epoch_end(self) -> None:
        """Dice of lungs and of lesions, each the mean over the cases with known masks."""
        counts = np.concatenate(self._counts)
        members = [self._cases == case for case in np.unique(self._cases)]
        summed = np.stack([np.nansum(counts[member], axis=0) for member in members])
        known = np.stack([~np.isnan(counts[member]).all(axis=(0, 2)) for member in members])
        common, total = summed[..., 0], summed[..., 1] + summed[..., 2]
        # If there is nothing to find, finding nothing is correct.
        dice = np.where(total > 0, 2 * common / np.maximum(1, total), 1)
        dice = np.array([values[known[:, number]].mean() for number, values in enumerate(dice.T)])
        self.log("val_loss", float(np.mean(self._losses)))
        self.log("val_lung_dice", float(dice[0]))
        self.log("val_lesion_dice", float(dice[1]))
        self.log("val_dice", float(dice.mean()))
        self._counts.clear()
        self._losses.clear()

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The decoder or the whole BCD U-Net, and the encoder of a U-Net."""
        encoder = [p for name, p in self.model.named_parameters() if name.startswith("encoder.model.")]
        taken = {id(p) for p in encoder}
        return [p for p in self.model.parameters() if id(p) not in taken], encoder

    def answering(self) -> nn.Module:
        """The network in the form of the bundle's graph, from images to probabilities."""
        return _Probabilities(self.model)

    @torch.no_grad()
    def probabilities(self, grey8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of each output, float32, shape (slices, outputs, height, width), in eval mode."""
        self.eval()
        batches, answering = np.array_split(grey8, max(1, len(grey8) // 8)), self.answering()
        answers = [answering(self._images8(batch)).cpu().numpy() for batch in batches]
        return np.concatenate(answers).astype(np.float32)


class SegmentTask(Task[SegmentationRecipe]):
    """Trains a segmenter."""

    @property
    def best_by(self) -> str:
        """The recipe's choice."""
        return self.recipe.training.best_by

    def load(self, run: Run) -> Fit:
        """Load the run's data and build the network."""
        recipe, spec = self.recipe, self.recipe.training
        manifest = read_manifest(run.manifest_file)
        # Augmentation equalises each picture that it draws.
        plain = recipe.preprocessing.model_copy(update={"clahe": None})
        train = self._part(manifest, "train", plain)
        validation = self._validation(run)
        run.update(taught=taught_slices(train))
        pl.seed_everything(recipe.seed, verbose=False)
        return Fit(
            self._new_module(validation),
            make_loader(_batches(_repeated(train, spec.repeat)), spec.batch_size, seed=recipe.seed),
            make_loader(_batches(validation), spec.batch_size),
            LOGGED,
            spec,
            self.best_by,
            devices=recipe.trainer,
        )

    def check_ready(self) -> None:
        """Raise GroundglassError if the segmenter that finds lungs for the training is not available."""
        super().check_ready()
        self._lungs_from()

    def _lungs_from(self) -> Segmenter | None:
        name = self.recipe.training.lungs_from
        return None if name is None else Segmenter.load(name)

    def _validation(self, run: Run) -> MaskedPart:
        return self._part(read_manifest(run.manifest_file), "val", self.recipe.preprocessing)

    def _part(self, manifest: pd.DataFrame, name: str, preprocessing: Preprocessing) -> MaskedPart:
        planes = len(outputs_of(self.recipe.model))
        return load_masked_part(
            manifest,
            name,
            preprocessing,
            lungs_from=self._lungs_from(),
            planes=planes,
            show_progress=self.show_progress,
        )

    def _new_module(self, validation: MaskedPart) -> SegmenterModule:
        cases, start = case_codes(validation.rows), self.recipe.training.start_from
        if start is None:
            return SegmenterModule(self.recipe, cases)
        earlier, best_by = _start(start)
        module = self._bare_module(cases)
        try:
            module.load_state_dict(kept_weights(earlier, best_by))
        except RuntimeError as error:
            raise GroundglassError(
                f"training.start_from {earlier.folder}: its network differs: {error}"
            ) from error
        if self.recipe.model.lesion_types and not _knows_types(earlier):
            _equal_types(module, validation.grey)
        return module

    def _bare_module(self, cases: NDArray[np.intp]) -> SegmenterModule:
        """A module whose weights come from a checkpoint, so that it does not need pretrained ones."""
        model = self.recipe.model.model_copy(update={"weights": "none"})
        return SegmenterModule(self.recipe.model_copy(update={"model": model}), cases)

    def kept(self, run: Run) -> SegmenterModule:
        """The module with the weights of the epoch that the run keeps; GroundglassError without a checkpoint."""
        module, spec = self._bare_module(np.zeros(0, dtype=np.intp)), self.recipe.training
        weights = kept_weights(run, self.best_by)
        if spec.start_from is not None and spec.keep_start:
            earlier = _start(spec.start_from)
            first = kept_weights(*earlier)
            averaged = [name for name in weights if weights[name].is_floating_point() and HEAD not in name]
            weights |= {name: torch.lerp(weights[name], first[name], spec.keep_start) for name in averaged}
        module.load_state_dict(weights)
        return module.eval()

    def export(self, run: Run) -> SegmenterBundle:
        """Write the bundle of a run, and ``masks.csv``, its overlap with the true masks of the validation set.

        The threshold on the lesion probability is chosen on the validation set, from the exported graph's
        own answers; weights are stored in 16 bits.

        Raises
        ------
        GroundglassError
            If the graph's probabilities differ from torch's by more than their precision explains.
        """
        recipe, preprocessing, precision = (
            self.recipe,
            self.recipe.preprocessing,
            self.recipe.deploy_precision,
        )
        module, validation = self.kept(run), self._validation(run)
        manifest = read_manifest(run.manifest_file)
        shape = (preprocessing.channels, *preprocessing.size)
        graph = halve_weights(onnx_graph(module.answering(), shape, ["masks"]))
        exported = np.stack(
            [masks for (masks,) in run_graph(graph, preprocessing, validation.grey, precision)]
        )
        difference = mean_difference(exported, module.probabilities(validation.grey))
        check_difference(run, difference, TOLERANCE[precision], "mean probability")
        marked = validation.taught[:, 1]
        threshold = best_threshold(
            exported[marked, 1:].sum(axis=1),
            validation.masks[marked, ..., 1],
            case_codes(validation.rows[marked]),
        )
        rules = recipe.post_processing.model_copy(update={"lesion_threshold": threshold})
        facts = SegmenterFacts(
            name=recipe.name,
            description=recipe.description,
            groundglass=__version__,
            graph_sha256=hashlib.sha256(graph).hexdigest(),
            preprocessing=preprocessing,
            outputs=outputs_of(recipe.model),
            precision=precision,
            post_processing=rules,
            chosen=self._chosen(run, rules),
            training=training_facts(recipe, run, manifest),
        )
        paths, parts = manifest["path"].tolist(), manifest["split"].tolist()
        fingerprints = Fingerprints.of(paths, parts, facts.training.fingerprint)
        bundle = SegmenterBundle(facts, graph, dump_recipe(recipe), run.bundle_folder, fingerprints)
        write_overlaps(run.folder / "masks.csv", overlaps(Segmenter(bundle), validation.rows))
        evaluation = evaluate_overlap(read_overlaps(run.folder / "masks.csv"), seed=recipe.seed)
        bundle.facts = facts.model_copy(update={"validation": evaluation})
        bundle.write(run.bundle_folder)
        run.update(onnx_difference=difference, lesion_threshold=threshold)
        return bundle

    def _chosen(self, run: Run, rules: PostProcessing) -> tuple[Choice, ...]:
        start, kept = self.recipe.training.start_from, self.recipe.training.keep_start
        return (
            *(
                [Choice(what="start", values={"weights of": Path(start).name, "share kept": kept})]
                if start
                else []
            ),
            kept_epoch(run, self.best_by),
            Choice(
                what="threshold",
                values={"lesion probability": rules.lesion_threshold},
                criterion="best Dice, mean over cases",
                data=VALIDATION,
            ),
        )


class _Probabilities(nn.Module):
    """The segmenter in the form of the bundle's graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return mask_probabilities(self.model(images))


def _start(folder: str) -> tuple[Run, str]:
    """The run that a training starts from, and the criterion of its kept epoch; GroundglassError if there is
    none."""
    earlier = Run(Path(folder))
    recipe = earlier.recipe()
    if not isinstance(recipe, SegmentationRecipe):
        raise GroundglassError(f"{folder}: is not the run of a segmenter")
    return earlier, recipe.training.best_by


def _knows_types(run: Run) -> bool:
    """Whether any slice of a run has a mask of lesion types."""
    manifest = read_manifest(run.manifest_file)
    return "lesion_types" in manifest and bool((manifest["lesion_types"] != "").any())


@torch.no_grad()
def _equal_types(module: SegmenterModule, grey8: NDArray[np.uint8]) -> None:
    """Make ground glass and consolidation equally likely: each half as likely as the type that now prevails.

    If no type is known, only the sum of both is trained, so one of the types takes all of it by chance.
    """
    prevailing = 1 + int(np.argmax(module.probabilities(grey8)[:, 1:].sum(axis=(0, 2, 3))))
    last = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)][-1]
    if last.bias is not None:
        last.weight[1:] = last.weight[prevailing].clone()
        last.bias[1:] = last.bias[prevailing] - math.log(2)


def taught_slices(part: MaskedPart) -> dict[str, int]:
    """The number of slices, and of those with lungs, lesions and lesion types as targets."""
    return {"slices": len(part.rows)} | dict(zip(PLANES, part.taught.sum(axis=0).tolist(), strict=False))


def _repeated(part: MaskedPart, repeat: Mapping[str, int]) -> MaskedPart:
    """A part in which slices are repeated as configured for their source; GroundglassError if there is no
    such source."""
    if not repeat:
        return part
    sources = part.rows["source"]
    for name in set(repeat) - set(sources):
        known = ", ".join(sorted(set(sources)))
        raise GroundglassError(
            f"training.repeat {name}: no training slice has that source; there are {known}"
        )
    rows = np.repeat(np.arange(len(sources)), [repeat.get(name, 1) for name in sources])
    return MaskedPart(part.rows.iloc[rows], part.grey[rows], part.masks[rows])


def _batches(part: MaskedPart) -> Slices:
    """Row numbers, which seed the augmentation, greys and masks."""
    return Slices(np.arange(len(part.grey)), part.grey, part.masks)


def mean_difference(exported: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The largest mean difference of an output, both of shape (slices, outputs, height, width)."""
    differences = []
    for found, true in zip(exported.swapaxes(0, 1), wanted.swapaxes(0, 1), strict=True):
        compared = np.maximum(found, true) > DOUBTFUL
        differences.append(float(np.abs(found - true)[compared].mean()) if compared.any() else 0.0)
    return max(differences)


def best_threshold(
    probabilities: NDArray[np.float32], truth: NDArray[np.uint8], cases: NDArray[np.intp]
) -> float:
    """The threshold with the best mean Dice over cases; Dice is 1 if a case has no lesions and none are found.

    Parameters
    ----------
    probabilities, truth
        Shape (slices, height, width); truth is 0 or 1.
    cases
        The case of each slice, numbered from 0.
    """
    members = [cases == case for case in np.unique(cases)]

    def mean_dice(threshold: float) -> float:
        found = probabilities >= threshold
        dice = []
        for member in members:
            both = np.count_nonzero(found[member]) + np.count_nonzero(truth[member])
            common = np.count_nonzero(found[member] & (truth[member] > 0))
            dice.append(2 * common / both if both else 1.0)
        return float(np.mean(dice))

    return round(float(max(THRESHOLDS, key=mean_dice)), 2)
