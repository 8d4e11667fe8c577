import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

if TYPE_CHECKING:
    from groundglass.detect.detector import Detector
    from groundglass.phantom import Phantom

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side
settings.register_profile("untimed", deadline=None)  # on a shared machine, times are meaningless
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's caches."""
    os.environ["GROUNDGLASS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["GROUNDGLASS_DATA"] = str(tmp_path_factory.mktemp("data"))
    os.environ["NO_COLOR"] = "1"


def blob(seed: int, *, bright: bool) -> Image.Image:
    """A picture that a small network classifies at once: a bright or a dark disc on noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:48, 0:48]
    centre = rng.integers(16, 32, 2)
    disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 100
    grey = rng.normal(110, 12, (48, 48)) + np.where(disc, 90 if bright else -90, 0)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``covid`` and ``normal``, 24 easy pictures each."""
    root = tmp_path_factory.mktemp("classes")
    for label, bright in (("covid", True), ("normal", False)):
        (root / label).mkdir()
        for number in range(24):
            blob(number + 100 * bright, bright=bright).save(root / label / f"{number}.png")
    return root


RECIPE = """
name: tiny
description: A tiny network for tests.
seed: 3
data: {{dataset: "{dataset}", split: random, fractions: [0.5, 0.25, 0.25]}}
preprocessing: {{size: [32, 32], channels: 1}}
augmentation: {{flip: 0.5, rotation: 5, noise: 0.02, mixup: 0.2}}
model: {{name: small-cnn, filters: [8, 8], dropout: 0.1}}
optimiser: {{name: adam, lr: 0.01}}
training: {{epochs: 4, batch_size: 8, precision: "32", best_by: val_loss, ema: 0.5}}
"""


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory, class_folder: Path) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE.format(dataset=class_folder))
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> Path:
    """The folder of a finished run."""
    from groundglass.commands.train import train
    from groundglass.data.splits import LeakageWarning

    with pytest.warns(LeakageWarning):
        run = train(recipe_file, (), tmp_path_factory.mktemp("runs") / "tiny", tell=lambda line: None)
    return run.folder


@pytest.fixture(scope="session")
def bundle_folder(trained: Path) -> Path:
    return trained / "bundle"


@pytest.fixture(scope="session")
def shipped_detector() -> "Detector":
    """The shipped detector with the shipped segmenter."""
    from groundglass.detect.detector import Detector

    return Detector.load()


@pytest.fixture(scope="session")
def usual_detector() -> "Detector":
    """A shipped detector of whole slices, which always answers, with the shipped segmenter."""
    from groundglass.detect.detector import Detector

    return Detector.load("covid-ct-lite0")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database of the newest form, to be copied: migrating each test's own would take longer."""
    from groundglass.store.database import FILE, Database

    folder = tmp_path_factory.mktemp("migrated")
    database = Database.of(folder)
    database.migrate()
    database.close()
    return folder / FILE


@pytest.fixture(scope="session")
def covid_phantom() -> "Phantom":
    """A whole chest with lesions, small enough for tests."""
    from groundglass.phantom import make_phantom, random_lesions

    return make_phantom(1, shape=(20, 160, 160), lesions=random_lesions(1, "covid"))
