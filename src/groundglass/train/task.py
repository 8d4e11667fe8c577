"""Base classes of the tasks in groundglass.train.tasks: each is one kind of training, from data to bundle."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from groundglass.data.manifest import read_manifest
from groundglass.detect.bundle import Bundle
from groundglass.recipe.parts import DetectorRecipe, Recipe
from groundglass.recipe.recipe import ClassificationRecipe
from groundglass.recipe.tasks import FeaturesRecipe
from groundglass.report.page import Table
from groundglass.segment.segmenter import SegmenterBundle, segmenter_for
from groundglass.train.export import DetectorGraph, finish_bundle
from groundglass.train.fit import Fit, fit, quieten
from groundglass.train.models import check_weights, with_substitute
from groundglass.train.run import Run
from groundglass.train.slices import PartData, load_part

AnyTaskRecipe = TypeVar("AnyTaskRecipe", bound=Recipe)
AnyDetectorRecipe = TypeVar("AnyDetectorRecipe", bound=DetectorRecipe)
BackboneRecipe = TypeVar("BackboneRecipe", ClassificationRecipe, FeaturesRecipe)


class Task(ABC, Generic[AnyTaskRecipe]):
    """One kind of training, with one recipe.

    Parameters
    ----------
    recipe
        The recipe.
    show_progress
        Draw progress bars.
    """

    def __init__(self, recipe: AnyTaskRecipe, *, show_progress: bool = False) -> None:
        self.recipe = recipe
        self.show_progress = show_progress

    @property
    def best_by(self) -> str | None:
        """The metric by which an epoch is kept, ``last`` for the last; None if there are no epochs."""
        return None

    def check_ready(self) -> None:
        """Raise GroundglassError if weights or a segmenter that the recipe needs are not available here."""
        segmenter_for(self.recipe.preprocessing)

    def for_this_machine(self, tell: Callable[[str], None]) -> tuple[AnyTaskRecipe, dict[str, Any]]:
        """The recipe as it can be trained here, and what ``run.json`` says about a backbone that was replaced."""
        return self.recipe, {}

    def as_run(self, own: Recipe) -> AnyTaskRecipe:
        """The recipe with the backbone that the run with the recipe ``own`` was trained with."""
        return self.recipe

    def train(
        self, run: Run, *, resume_from: Path | None = None, tell: Callable[[str], None] = print
    ) -> None:
        """Train in a run's folder, which has been started; parameters and errors as in :func:`fit`."""
        quieten()
        fit(self.load(run), run, resume_from=resume_from, show_progress=self.show_progress, tell=tell)

    def load(self, run: Run) -> Fit:
        """Load the run's data and build the network."""
        raise NotImplementedError

    def part(self, run: Run, name: str) -> PartData:
        """The decoded slices of one part of a run; errors as in :func:`load_part`."""
        manifest = read_manifest(run.manifest_file)
        return load_part(manifest, name, self.recipe, show_progress=self.show_progress)

    @abstractmethod
    def export(self, run: Run) -> Bundle | SegmenterBundle:
        """Write the bundle of the kept network, and the run's predictions on its validation set.

        Raises
        ------
        GroundglassError
            If the exported graph differs from the trained network on the validation slices, or nothing was
            trained.
        """

    def headline(self, run: Run) -> str:
        """The first sentence of the run's report."""
        epoch = run.facts()["best_epoch"]
        if self.best_by == "last":
            return f"The last epoch, {epoch}, was kept."
        return f"Best epoch {epoch} by {self.best_by}, on the validation set."

    def tables(self, run: Run) -> list[Table]:
        """Further tables of the run's report."""
        return []


class DetectorTask(Task[AnyDetectorRecipe]):
    """A task that trains a detector of COVID-19."""

    @abstractmethod
    def graph(self, run: Run, validation: PartData) -> DetectorGraph:
        """The exported graph of the kept network, with the answers that it must give."""

    def export(self, run: Run) -> Bundle:
        """Write the bundle; see :meth:`Task.export` and groundglass.train.export.finish_bundle."""
        validation = self.part(run, "val")
        graph = self.graph(run, validation)
        return finish_bundle(run, self.recipe, graph, read_manifest(run.manifest_file), validation)


class BackboneTask(DetectorTask[BackboneRecipe]):
    """A task whose recipe names a backbone, which the recipe's substitute may replace."""

    def check_ready(self) -> None:
        """Raise GroundglassError if the segmenter, or the weights of a backbone without substitute, are missing."""
        super().check_ready()
        if self.recipe.model.substitute is None:
            check_weights(self.recipe.model.name, self.recipe.model.weights)

    def for_this_machine(self, tell: Callable[[str], None]) -> tuple[BackboneRecipe, dict[str, Any]]:
        """See :meth:`Task.for_this_machine`."""
        model = self.recipe.model
        if model.substitute is None:
            return self.recipe, {}
        name = with_substitute(model.name, model.weights, model.substitute)
        if name == model.name:
            return self._with_backbone(name), {}
        tell(f"{model.name}: its weights are not available here; using the recipe's substitute {name}")
        return self._with_backbone(name), {"backbone": name, "stands_in_for": model.name}

    def as_run(self, own: Recipe) -> BackboneRecipe:
        """See :meth:`Task.as_run`."""
        model = self.recipe.model
        if not isinstance(own, type(self.recipe)) or model.substitute is None:
            return self.recipe
        name = own.model.name
        return self._with_backbone(name) if name in (model.name, model.substitute) else self.recipe

    def _with_backbone(self, name: str) -> BackboneRecipe:
        """The recipe with the chosen backbone."""
        model = self.recipe.model.model_copy(update={"name": name, "substitute": None})
        return self.recipe.model_copy(update={"model": model})
