"""Bundle: a trained detector in one folder or zip, with everything that detection needs and no training code.

``bundle.json`` holds the facts (groundglass.detect.facts), ``model.onnx`` the network, ``recipe.yaml`` what it
was trained by and ``MODEL_CARD.md`` the facts in words. The graph takes ``images``, float32 (batch, channels,
height, width), and gives ``logits``, float32 (batch,), and ``evidence``, float32 (batch, rows, columns): what
each place of the slice adds to the logit.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from groundglass.detect.facts import BundleFacts, EvaluationFacts
from groundglass.detect.model_card import model_card
from groundglass.errors import GroundglassError
from groundglass.files import write_bytes, write_json, write_text

FACTS = "bundle.json"
GRAPH = "model.onnx"
RECIPE = "recipe.yaml"
CARD = "MODEL_CARD.md"
DEFAULT = "covid-ct-lite0"
"""The shipped bundle that is used where none is named."""


class BundleError(GroundglassError):
    """A bundle that is missing, damaged or made for another version."""


class Bundle:
    """A bundle that was read from disk.

    Attributes
    ----------
    facts
        The content of ``bundle.json``.
    graph
        The ONNX graph, as bytes.
    recipe
        The recipe, as YAML text.
    source
        The folder or zip.
    """

    def __init__(self, facts: BundleFacts, graph: bytes, recipe: str, source: Path) -> None:
        self.facts = facts
        self.graph = graph
        self.recipe = recipe
        self.source = source

    @classmethod
    def load(cls, name_or_path: str | Path | None = None) -> "Bundle":
        """Read a bundle.

        Parameters
        ----------
        name_or_path
            A shipped bundle's name, a folder or a zip; by default the default bundle.

        Raises
        ------
        BundleError
            If there is none, a file is missing or damaged, or the graph is not the one that the facts name.
        """
        source = _find(name_or_path or DEFAULT)
        try:
            read = _zip_reader(source) if source.is_file() else _folder_reader(source)
            facts = BundleFacts.model_validate_json(read(FACTS))
            graph = read(GRAPH)
            recipe = read(RECIPE).decode("utf-8")
        except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise BundleError(f"{source}: is no complete bundle ({error}); export it anew") from error
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise BundleError(
                f"{source}: {FACTS} does not fit this version ({where}: {problem['msg']})"
            ) from error
        if hashlib.sha256(graph).hexdigest() != facts.graph_sha256:
            raise BundleError(f"{source}: {GRAPH} is damaged or not the one of {FACTS}; get the bundle anew")
        return cls(facts, graph, recipe, source)

    @staticmethod
    def save(folder: Path, facts: BundleFacts, graph: bytes, recipe: str) -> None:
        """Write a bundle's folder; ``bundle.json`` comes last, so that a half-written one does not load."""
        write_bytes(folder / GRAPH, graph)
        write_text(folder / RECIPE, recipe)
        _write_facts(folder, facts)

    def record(self, evaluation: EvaluationFacts) -> None:
        """Enter an evaluation into the bundle and its model card, in place of one of the same data.

        Raises
        ------
        BundleError
            If the bundle is a zip, which is not rewritten.
        """
        if self.source.is_file():
            raise BundleError(f"{self.source}: figures are entered into a bundle's folder, not its zip")
        key = (evaluation.dataset, evaluation.part)
        others = [e for e in self.facts.evaluations if (e.dataset, e.part) != key]
        self.facts = self.facts.model_copy(update={"evaluations": (*others, evaluation)})
        _write_facts(self.source, self.facts)

    def write_zip(self, path: Path) -> None:
        """Write the bundle as one zip, byte-identical for the same content."""
        content = {
            FACTS: self.facts.model_dump_json(indent=2).encode(),
            GRAPH: self.graph,
            RECIPE: self.recipe.encode(),
            CARD: model_card(self.facts).encode(),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
        write_bytes(path, buffer.getvalue())


def shipped_bundles() -> dict[str, Path]:
    """The bundles that come with the package, by name."""
    root = Path(str(resources.files("groundglass.detect") / "bundles"))
    return {folder.name: folder for folder in sorted(root.glob("*")) if (folder / FACTS).exists()}


def _find(name_or_path: str | Path) -> Path:
    shipped = shipped_bundles()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if path.exists():
        return path
    names = ", ".join(shipped) or "none"
    raise BundleError(f"{name_or_path}: there is no such bundle, folder or zip (shipped: {names})")


def _folder_reader(folder: Path) -> Callable[[str], bytes]:
    return lambda name: (folder / name).read_bytes()


def _zip_reader(path: Path) -> Callable[[str], bytes]:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in (FACTS, GRAPH, RECIPE)}
    return content.__getitem__


def _write_facts(folder: Path, facts: BundleFacts) -> None:
    write_text(folder / CARD, model_card(facts))
    write_json(folder / FACTS, facts.model_dump(mode="json"))
