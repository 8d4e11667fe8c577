"""Lesions: a detector that continues to learn a segmenter's masks, and whose only evidence is lesions."""

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from groundglass.bundle.facts import Choice
from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import read_manifest
from groundglass.errors import GroundglassError, count_of
from groundglass.recipe.divide import divided_by, named_sources
from groundglass.recipe.tasks import GroundedRecipe
from groundglass.segment.segmenter import Segmenter, segmenter_for
from groundglass.train.augment import Augment
from groundglass.train.export import (
    VALIDATION,
    DetectorGraph,
    halve_weights,
    kept_epoch,
    onnx_graph,
    run_graph,
)
from groundglass.train.fit import Fit, kept_weights
from groundglass.train.lesion_model import Grounded, frozen_parameters, grounded_network
from groundglass.train.losses import MaskLoss, make_loss
from groundglass.train.masks import MaskedPart, load_masked_part, masked_rows
from groundglass.train.module import Batch, DetectorModule
from groundglass.train.painted_lesions import paint
from groundglass.train.run import Run
from groundglass.train.slices import BalancedBatches, PartData, Slices, make_loader
from groundglass.train.task import DetectorTask
from groundglass.train.tasks.classify import LOGGED

HEALTHY = 0.01
"""Other lesions may be painted into slices up to this lesion share."""
COMPONENTS = 32
"""Number of principal directions of the training slices' features in which a slice's distance is measured."""
TYPICAL = 99.5
"""Percentile of the validation slices' distances above which a slice is unlike the training slices."""


class LesionsModule(DetectorModule):
    """A lesion detector with its recipe's losses and augmentation.

    Parameters
    ----------
    recipe
        The recipe.
    masked
        The slices with masks; None if the module is not trained.
    start
        Start from the segmenter's weights; otherwise a checkpoint provides them.
    """

    model: Grounded

    def __init__(
        self, recipe: GroundedRecipe, masked: MaskedPart | None = None, *, start: bool = True
    ) -> None:
        model = grounded_network(recipe.model, recipe.preprocessing.channels, start=start)
        super().__init__(recipe, model, recipe.training.epochs, make_loss(recipe.loss, (1, 1)))
        for parameter in frozen_parameters(self.model):
            parameter.requires_grad_(False)
        self.augmentation = recipe.augmentation
        self.masks_batch = recipe.training.masks_batch
        self.weight = recipe.loss.weight
        self.augment = Augment(recipe.augmentation)
        self.mask_loss = MaskLoss(recipe.loss.masks)
        self._masked = masked

    def training_loss(self, batch: Batch, step: int) -> Tensor:
        """Loss of the answers of a batch, and of the masks of further slices drawn here."""
        random = np.random.default_rng((self.seed, self.current_epoch, step))
        grey8, truth = batch
        outside = self.preprocessing.outside
        answered = self.augment.move(self._painted(random, grey8, truth)[:, None], outside)
        masked = self.augment.move(self._with_masks(random), outside)
        grey = self.augment.look(torch.cat([masked[:, 0], answered[:, 0]]))
        masks, logits, _, _ = self.model(self.images(grey))
        with torch.autocast(self.device.type, enabled=False):
            count = len(masked)
            loss: Tensor = self.mask_loss(masks[:count].float(), (masked[:, 1:] > 0.5).float())
            return loss + self.weight * self.loss(logits[count:].float(), truth)

    def _painted(self, random: np.random.Generator, grey8: Tensor, truth: Tensor) -> Tensor:
        """Grey in [0, 1], with other lesions painted into some slices without COVID-19 and with hardly any
        lesion."""
        chosen = (truth.cpu().numpy() == 0) & (random.random(len(truth)) < self.augmentation.painted)
        if chosen.any():
            rows = np.flatnonzero(chosen)
            healthy = grey8[torch.from_numpy(rows)]
            with torch.no_grad():
                marked = torch.sigmoid(self.model.marked(self.images(self.grey(healthy))))
            probabilities = marked.float().cpu().numpy()
            grey8 = grey8.clone()
            for row, picture, (lungs, lesions) in zip(
                rows, healthy.cpu().numpy(), probabilities, strict=True
            ):
                if lesions.sum() <= HEALTHY * lungs.sum():
                    grey8[row] = torch.from_numpy(paint(random, picture, lungs > 0.5))
        return self.grey(grey8)

    def _with_masks(self, random: np.random.Generator) -> Tensor:
        """A random batch of the slices with masks: float32, shape (slices, 3, height, width), grey, lungs and
        lesions."""
        if self._masked is None:
            raise ValueError("a module without masks cannot be trained")
        rows = random.integers(len(self._masked.grey), size=self.masks_batch)
        grey = self._masked.grey[rows][:, None].astype(np.float32) / np.float32(255)
        masks = np.ascontiguousarray(self._masked.masks[rows].transpose(0, 3, 1, 2))
        together = np.concatenate([grey, masks], axis=1, dtype=np.float32)
        turned = random.random(len(rows)) < self.augmentation.upside_down
        together[turned] = together[turned, :, ::-1]
        return torch.from_numpy(together).to(self.device)

    def predict_logits(self, images: Tensor) -> Tensor:
        """Logits of COVID-19, shape (batch,), of model input."""
        logits: Tensor = self.model(images)[1]
        return logits

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The head, and the U-Net except its frozen stages."""
        unet = [one for one in self.model.unet.parameters() if one.requires_grad]
        return [*self.model.judge.parameters(), self.model.bias], unet

    def features(self, grey8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The lungs' mean features, float32, shape (slices, features), of 8-bit grey, (slices, height, width)."""
        return self.in_batches(lambda images: self.model(images)[3], grey8)


class LesionsTask(DetectorTask[GroundedRecipe]):
    """Trains a lesion detector."""

    @property
    def best_by(self) -> str:
        """The recipe's choice."""
        return self.recipe.training.best_by

    def check_ready(self) -> None:
        """Raise GroundglassError if the segmenter to start from, or that of the preprocessing, is not available."""
        super().check_ready()
        Segmenter.load(self.recipe.model.segmenter)

    def masks(self) -> pd.DataFrame:
        """The divided slices with masks; see :meth:`groundglass.train.task.Task.masks`."""
        source, left_out = self.recipe.masks, self.recipe.data.leave_out
        named = named_sources(load_dataset(source.dataset), source.name)
        if left_out in set(named["source"]):
            raise GroundglassError(
                f"masks.dataset {source.dataset}: comes from {left_out}, which is left out; name other masks"
            )
        divided = divided_by(named, source, self.recipe.seed)
        masked_rows(divided, "train")
        return divided

    def load(self, run: Run) -> Fit:
        """Load the run's data and build the network."""
        recipe, spec = self.recipe, self.recipe.training
        train, validation = self.part(run, "train"), self.part(run, "val")
        masked = load_masked_part(
            read_manifest(run.masks_file),
            "train",
            recipe.preprocessing,
            segmenter_for(recipe.preprocessing),
            show_progress=self.show_progress,
        )
        pl.seed_everything(recipe.seed, verbose=False)
        module = LesionsModule(recipe, masked)
        cases = masked.rows["patient"].nunique()
        run.update(masks={"dataset": recipe.masks.name, "slices": len(masked.rows), "cases": cases})
        batches = BalancedBatches(_strata(train), spec.batch_size, spec.steps, recipe.seed)
        return Fit(
            module,
            DataLoader(Slices(train.grey, train.target), batch_size=None, sampler=batches),
            make_loader(Slices(validation.grey, validation.target), spec.batch_size),
            LOGGED,
            spec,
            self.best_by,
        )

    def kept(self, run: Run) -> LesionsModule:
        """The module with the weights of the epoch that the run keeps; GroundglassError without a checkpoint."""
        module = LesionsModule(self.recipe, start=False)
        module.load_state_dict(kept_weights(run, self.best_by))
        return module.eval()

    def graph(self, run: Run, validation: PartData) -> DetectorGraph:
        """The graph of the kept epoch, with weights in 16 bits, and the distance up to which slices count as
        typical."""
        recipe, module = self.recipe, self.kept(run)
        preprocessing = recipe.preprocessing
        module.model.emphasise()
        _round_weights(module)
        mean, axes = _whitening(module.features(self.part(run, "train").grey))
        answering = _Answering(module.model, torch.from_numpy(mean), torch.from_numpy(axes))
        shape = (preprocessing.channels, *preprocessing.size)
        graph = halve_weights(onnx_graph(answering, shape, ["logits", "evidence", "distance"]))
        distances = [float(distance) for *_, distance in run_graph(graph, preprocessing, validation.grey)]
        furthest = float(np.percentile(distances, TYPICAL))
        masks = run.facts()["masks"]
        chosen = (
            Choice(
                what="start",
                values={"segmenter": recipe.model.segmenter},
                criterion=f"lesions by {masks['slices']} slices with masks ({masks['cases']} cases)",
                data=masks["dataset"],
            ),
            kept_epoch(run, self.best_by),
            Choice(
                what="furthest distance",
                values={"distance": furthest},
                criterion=f"percentile {TYPICAL:g}",
                data=VALIDATION,
            ),
        )
        expected = module.logits(validation.grey)
        return DetectorGraph(graph, expected, chosen, furthest, recipe.deploy_precision)


def _strata(part: PartData) -> NDArray[np.intp]:
    """A number for each source and class: if all are equally frequent, a network does not learn classes by
    source."""
    pairs = part.rows["source"].astype(str) + "\0" + part.target.astype(str)
    return np.asarray(pd.factorize(pairs)[0], dtype=np.intp)


class _Answering(nn.Module):
    """The network in the form of the bundle's graph: logits, evidence, and distance from the training slices.

    The distance is the root mean square of the coordinates along the principal components of the training
    slices' features, each divided by its standard deviation (Mahalanobis distance; Lee et al. 2018, arXiv
    1807.03888).
    """

    def __init__(self, network: Grounded, mean: Tensor, axes: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, logits, evidence, features = self.network(images)
        coordinates = (features - self.get_buffer("mean")) @ self.get_buffer("axes")
        return logits, evidence, coordinates.square().mean(dim=1).sqrt()


def _round_weights(module: LesionsModule) -> None:
    """Round the weights as the graph will hold them, so that torch and the graph can be compared closely."""
    with torch.no_grad():
        for weights in module.model.parameters():
            rounded = weights.half().float()
            if torch.isfinite(rounded).all():
                weights.copy_(rounded)


def _whitening(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of features, shape (slices, features), and their principal axes divided by their standard
    deviations.

    Raises
    ------
    GroundglassError
        If there are too few slices.
    """
    count = min(COMPONENTS, len(features) - 1, features.shape[1])
    if count < 1:
        raise GroundglassError(
            f"the train part has {count_of(len(features), 'slice')}; at least 2 are needed"
        )
    mean = features.mean(axis=0)
    _, deviations, axes = np.linalg.svd(features - mean, full_matrices=False)
    scale = np.maximum(deviations[:count] / np.sqrt(len(features) - 1), 1e-6)
    return mean, (axes[:count].T / scale).astype(np.float32)
