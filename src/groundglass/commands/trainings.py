"""Several trainings, which are all checked before the first one starts, and which can be resumed."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from groundglass.commands.train import check_ready, finish_training, same_run
from groundglass.data.splits import LeakageWarning
from groundglass.errors import GroundglassError
from groundglass.recipe.recipe import AnyRecipe
from groundglass.train.run import Run


@dataclass(frozen=True)
class Training:
    """One of several trainings: a name for its messages, its recipe, and its run."""

    name: str
    recipe: AnyRecipe
    run: Run

    def finish(self, tell: Callable[[str], None]) -> None:
        """Train, unless that is done; a stopped training is resumed.

        Raises
        ------
        GroundglassError
            If the training fails.
        """
        with without_leakage_warning():
            new = finish_training(self.recipe, self.run, lambda line: tell(f"{self.name}  {line}"))
        tell(f"{self.name}: {'trained' if new else 'was already trained'}")


def check_trainings(trainings: Sequence[Training]) -> None:
    """Check trainings of recipes that differ only in data and seed, so that no mistake surfaces after hours.

    Raises
    ------
    GroundglassError
        If weights or a segmenter are not available, or a folder holds a run of another recipe or on
        other data.
    """
    check_ready(trainings[0].recipe)
    with without_leakage_warning():
        for training in trainings:
            if not Run.is_run(training.run.folder):
                continue
            try:
                same_run(training.recipe, training.run)
            except GroundglassError as error:
                raise GroundglassError(
                    f"{error}; choose another folder with -o, or delete {training.run.folder} to train it again"
                ) from error


@contextmanager
def without_leakage_warning() -> Iterator[None]:
    """Suppress the warning about a leaking split, which would be repeated for each training."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakageWarning)
        yield
