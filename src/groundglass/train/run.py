"""A run's folder: its files, and whether it can be started, resumed or used.

``recipe.yaml`` holds the whole recipe, ``run.json`` versions, data fingerprint, seed and state, ``manifest.csv``
the data with the split that was used, ``log.csv`` one row per epoch, ``checkpoints/`` the best and the last
epoch, ``predictions.csv`` the predictions on the validation set (``masks.csv`` for a segmenter), ``bundle/`` the
network, and ``report.html`` the report.
"""

import json
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from groundglass import __version__
from groundglass.errors import GroundglassError
from groundglass.files import write_json, write_text
from groundglass.recipe.parts import Recipe
from groundglass.recipe.recipe import AnyRecipe, dump_recipe, load_recipe

LIBRARIES = (
    "torch",
    "lightning",
    "timm",
    "kornia",
    "segmentation-models-pytorch",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "scikit-learn",
    "skl2onnx",
)


@dataclass(frozen=True)
class Run:
    """The folder of one training run."""

    folder: Path

    @property
    def recipe_file(self) -> Path:
        """The recipe as it was run."""
        return self.folder / "recipe.yaml"

    @property
    def facts_file(self) -> Path:
        """Versions, fingerprint, seed and state."""
        return self.folder / "run.json"

    @property
    def manifest_file(self) -> Path:
        """The data, with the split that was used."""
        return self.folder / "manifest.csv"

    @property
    def log_file(self) -> Path:
        """One row per epoch."""
        return self.folder / "log.csv"

    @property
    def checkpoints(self) -> Path:
        """Folder of ``best.ckpt`` and ``last.ckpt``."""
        return self.folder / "checkpoints"

    @property
    def predictions_file(self) -> Path:
        """Predictions on the validation set."""
        return self.folder / "predictions.csv"

    @property
    def bundle_folder(self) -> Path:
        """The exported detector or segmenter."""
        return self.folder / "bundle"

    @property
    def report_file(self) -> Path:
        """The report of the run."""
        return self.folder / "report.html"

    @classmethod
    def is_run(cls, folder: Path) -> bool:
        """Whether ``folder`` is a run's folder."""
        return (folder / "run.json").is_file() and (folder / "recipe.yaml").is_file()

    def recipe(self) -> AnyRecipe:
        """The recipe as it was run; raises GroundglassError as :meth:`facts` does."""
        self.facts()
        return load_recipe(self.recipe_file)

    def facts(self) -> dict[str, Any]:
        """The content of ``run.json``; raises GroundglassError if the folder is not a run's."""
        try:
            content: dict[str, Any] = json.loads(self.facts_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise GroundglassError(f"{self.folder}: is not a run's folder ({error})") from error
        return content

    def update(self, **facts: Any) -> None:
        """Change entries of ``run.json``."""
        write_json(self.facts_file, {**self.facts(), **facts})

    def start(self, recipe: Recipe, fingerprint: str, *, overwrite: bool) -> None:
        """Create the folder of a new run.

        Raises
        ------
        GroundglassError
            If the folder already holds a run and ``overwrite`` is not given, or holds something else.
        """
        # A kill between the writing of the two files below leaves only a recipe.
        if self.folder.exists() and any(path != self.recipe_file for path in self.folder.iterdir()):
            if not self.is_run(self.folder):
                raise GroundglassError(
                    f"{self.folder}: contains files that do not belong to a run; choose another folder with "
                    "-o"
                )
            if not overwrite:
                state = self.facts()["state"]
                raise GroundglassError(
                    f"{self.folder}: already contains a run ({state}); --resume continues it, --overwrite "
                    "starts again, -o chooses another folder"
                )
            shutil.rmtree(self.folder)
        write_text(self.recipe_file, dump_recipe(recipe))
        facts = {"state": "started", "seed": recipe.seed, "fingerprint": fingerprint, "versions": versions()}
        write_json(self.facts_file, {**facts, "command": sys.argv[1:]})

    def check_resumable(self, recipe: Recipe, fingerprint: str) -> Path:
        """The checkpoint to continue from.

        Raises
        ------
        GroundglassError
            If there is no run or checkpoint, or the recipe or the data differ from those of the run.
        """
        facts = self.facts()
        if dump_recipe(self.recipe()) != dump_recipe(recipe):
            raise GroundglassError(f"{self.folder}: was started with another recipe; resume with that one")
        if facts["fingerprint"] != fingerprint:
            raise GroundglassError(f"{self.folder}: the data has changed since the run was started")
        return self.checkpoints / "last.ckpt"


def versions() -> dict[str, str]:
    """Versions of everything that affects a result, and the type of processor."""
    libraries = {name: version(name) for name in LIBRARIES}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"groundglass": __version__, "python": platform.python_version(), **libraries, "machine": machine}
