"""Classification: a backbone with a head, trained end to end."""

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from groundglass.bundle.engine import Engine
from groundglass.recipe.recipe import ClassificationRecipe
from groundglass.train.augment import Augment
from groundglass.train.export import DetectorGraph, check_difference, kept_epoch, onnx_graph
from groundglass.train.fit import Fit, kept_weights
from groundglass.train.losses import make_loss
from groundglass.train.models import Classifier, build_model
from groundglass.train.module import Batch, DetectorModule
from groundglass.train.run import Run
from groundglass.train.slices import PartData, Slices, make_loader
from groundglass.train.task import BackboneTask

LOGGED = ("train_loss", "val_loss", "val_auc", "val_accuracy")
"""The metrics of each epoch in a detector's log."""
CHECKED, EVIDENCE_TOLERANCE = 4, 1e-3
"""Number of slices whose evidence is compared, and the largest difference as a share of the maximum evidence."""


class ClassifierModule(DetectorModule):
    """A classifier with its recipe's loss and augmentation.

    Parameters
    ----------
    recipe
        The recipe.
    counts
        Number of training slices of each class, for class weights: of controls and covid, or of each of the
        recipe's several classes.
    """

    model: Classifier

    def __init__(self, recipe: ClassificationRecipe, counts: ArrayLike) -> None:
        preprocessing = recipe.preprocessing
        model = build_model(recipe.model, preprocessing.channels, preprocessing.size, recipe.data.several)
        if recipe.model.freeze_backbone:
            model.backbone.requires_grad_(False)
        super().__init__(recipe, model, recipe.training.epochs, make_loss(recipe.loss, counts))
        self.frozen = recipe.model.freeze_backbone
        self.mixup = recipe.augmentation.mixup
        self.augment = Augment(recipe.augmentation)

    def on_train_epoch_start(self) -> None:
        """Do not update a frozen backbone's batch normalisation."""
        if self.frozen:
            self.model.backbone.eval()

    def training_loss(self, batch: Batch, step: int) -> Tensor:
        """Loss of one batch of cached 8-bit grey, augmented."""
        grey8, truth = batch
        grey = self.augment(self.grey(grey8))
        if not self.mixup:
            plain: Tensor = self.loss(self.model(self.images(grey)).float(), truth)
            return plain
        share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
        other = torch.randperm(len(grey), device=grey.device)
        logits = self.model(self.images(share * grey + (1 - share) * grey[other])).float()
        mixed: Tensor = share * self.loss(logits, truth) + (1 - share) * self.loss(logits, truth[other])
        return mixed

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The head, and the backbone unless it is frozen."""
        return list(self.model.head.parameters()), [] if self.frozen else list(
            self.model.backbone.parameters()
        )


class ClassifyTask(BackboneTask[ClassificationRecipe]):
    """Trains a classifier."""

    @property
    def best_by(self) -> str:
        """The recipe's choice."""
        return self.recipe.training.best_by

    def load(self, run: Run) -> Fit:
        """Load the run's data and build the network."""
        spec, seed = self.recipe.training, self.recipe.seed
        train, validation = self.part(run, "train"), self.part(run, "val")
        pl.seed_everything(seed, verbose=False)
        return Fit(
            ClassifierModule(self.recipe, train.counts),
            make_loader(Slices(train.grey, train.target), spec.batch_size, seed=seed, steps=spec.steps),
            make_loader(Slices(validation.grey, validation.target), spec.batch_size),
            LOGGED,
            spec,
            self.best_by,
            spec.early_stopping,
            self.recipe.trainer,
        )

    def kept(self, run: Run) -> ClassifierModule:
        """The module with the weights of the run's best epoch; GroundglassError if there is no checkpoint."""
        weights = kept_weights(run, self.best_by)
        # The weights come from the checkpoint, so the pretrained ones are no longer needed.
        model = self.recipe.model.model_copy(update={"weights": "none"})
        several = self.recipe.data.several
        module = ClassifierModule(
            self.recipe.model_copy(update={"model": model}), np.ones(max(2, len(several)))
        )
        module.load_state_dict(weights)
        return module.eval()

    def graph(self, run: Run, validation: PartData) -> DetectorGraph:
        """The graph of the best epoch; GroundglassError if its evidence differs from torch's."""
        module, preprocessing = self.kept(run), self.recipe.preprocessing
        graph = classifier_graph(module.model, (preprocessing.channels, *preprocessing.size))
        self._check_evidence(run, module, graph, validation)
        return DetectorGraph(graph, module.logits(validation.grey), (kept_epoch(run, self.best_by),))

    def _check_evidence(self, run: Run, module: ClassifierModule, graph: bytes, validation: PartData) -> None:
        """Refuse a graph whose heatmaps of a few slices differ from the network's."""
        preprocessing = self.recipe.preprocessing
        inputs = preprocessing.model_input(validation.grey[:CHECKED])
        with torch.no_grad():
            expected = module.model.explain(torch.from_numpy(inputs))[1].numpy()
        engine = Engine(graph, (preprocessing.channels, *preprocessing.size))
        found = np.stack([outputs[1] for outputs in engine.run(inputs)])
        difference = float(np.abs(found - expected).max() / max(1e-6, np.abs(expected).max()))
        check_difference(run, difference, EVIDENCE_TOLERANCE, "evidence")


class _Explained(nn.Module):
    """The classifier in the form of the bundle's graph: logits and evidence."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.explain(images)


def classifier_graph(model: Classifier, shape: tuple[int, int, int]) -> bytes:
    """The ONNX graph of a classifier, from ``images`` to ``logits`` and ``evidence``, for any batch size.

    Parameters
    ----------
    model
        The classifier.
    shape
        Channels, height and width of its input.
    """
    return onnx_graph(_Explained(model), shape, ["logits", "evidence"])
