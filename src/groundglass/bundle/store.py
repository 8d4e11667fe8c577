"""Bundles on disk: a folder, or the same as a zip.

``bundle.json`` holds the facts (groundglass.bundle.facts), ``model.onnx`` the network, ``recipe.yaml`` its
recipe (for the record only: nothing is read from it) and ``MODEL_CARD.md`` the facts as text;
``fingerprints.bin`` holds the split of its data (groundglass.bundle.fingerprints). A bundle that needs
another one, such as a detector that needs a lung segmenter, stores it in a subfolder of the same form.
"""

import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import ValidationError

from groundglass.bundle.facts import FORMAT, EvaluationFacts, Facts, TrainingFacts
from groundglass.bundle.fingerprints import FINGERPRINTS, Fingerprints
from groundglass.errors import BundleError
from groundglass.files import write_bytes

log = logging.getLogger(__name__)

FACTS = "bundle.json"
GRAPH = "model.onnx"
RECIPE = "recipe.yaml"
CARD = "MODEL_CARD.md"
SHIPPED = "groundglass.bundle"
"""The package that holds the folder ``shipped``."""

F = TypeVar("F", bound=Facts)
Reader = Callable[[str], bytes]


@dataclass
class StoredBundle(Generic[F]):
    """A bundle that was read from disk; each kind of network has its own subclass.

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
    fingerprints
        Fingerprints of the slices of its data, with their part of the split; None if it was exported without
        them.
    """

    facts: F
    graph: bytes
    recipe: str
    source: Path
    fingerprints: Fingerprints | None = None

    kind: ClassVar[str]
    default: ClassVar[str]
    facts_type: ClassVar[type[Facts]]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.facts.name!r}, {str(self.source)!r})"

    @classmethod
    def card_of(cls, facts: F) -> str:
        """The model card of facts, as Markdown."""
        raise NotImplementedError

    @classmethod
    def load(cls, name_or_path: str | Path | None = None) -> Self:
        """Read a bundle.

        Parameters
        ----------
        name_or_path
            A shipped bundle's name, a folder, a zip or a run's folder; by default the shipped one of this kind.

        Raises
        ------
        BundleError
            If there is none, it is of another kind, a file is missing or damaged, or the graph is not the one
            that the facts name.
        """
        source = _find(name_or_path or cls.default, cls.kind)
        log.info("loading the %s %s", cls.kind, source)
        try:
            read = _zip_reader(source) if source.is_file() else _folder_reader(source)
            return cls._read(read, source)
        except (OSError, KeyError, zipfile.BadZipFile, UnicodeDecodeError) as error:
            raise BundleError(f"{source}: is not a complete bundle ({error}); export it again") from error

    @classmethod
    def _read(cls, read: Reader, source: Path) -> Self:
        facts_text, graph, recipe = read(FACTS), read(GRAPH), read(RECIPE).decode("utf-8")
        kind = _kind_in(facts_text, source)
        if kind != cls.kind:
            raise BundleError(f"{source}: is a {kind}, but a {cls.kind} is needed here")
        stated = json.loads(facts_text).get("format")
        if stated != FORMAT:
            raise BundleError(
                f"{source}: {FACTS} has format {stated}, and this version of Groundglass reads format {FORMAT}; "
                "export the bundle again with `groundglass bundle RUN`"
            )
        try:
            facts: F = cls.facts_type.model_validate_json(facts_text)  # type: ignore[assignment]
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise BundleError(
                f"{source}: {FACTS} does not fit this version ({where}: {problem['msg']})"
            ) from error
        if hashlib.sha256(graph).hexdigest() != facts.graph_sha256:
            raise BundleError(
                f"{source}: {GRAPH} is damaged or does not belong to {FACTS}; get a new copy of the bundle"
            )
        return cls(facts, graph, recipe, source, _fingerprints(read, facts, source))

    @classmethod
    def read_inner(cls, read: Reader, folder: str, source: Path) -> Self:
        """Read the bundle that another one holds in ``folder``; errors as :meth:`load`."""
        return cls._read(lambda name: read(folder + name), source / folder)

    def write(self, path: Path) -> None:
        """Write the bundle: as a zip if ``path`` ends in ``.zip``, byte-identical for the same content; else
        as a folder, with ``bundle.json`` last, so that a half-written one does not load.
        """
        content = self.content()
        if path.suffix != ".zip":
            for name in sorted(content, key=lambda name: name == FACTS):
                write_bytes(path / name, content[name])
            return
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
        write_bytes(path, buffer.getvalue())

    def content(self) -> dict[str, bytes]:
        """The bundle's files by their names."""
        return {
            FACTS: (self.facts.stored().model_dump_json(indent=2) + "\n").encode(),
            GRAPH: self.graph,
            RECIPE: self.recipe.encode(),
            CARD: self.card_of(self.facts.stored()).encode(),
            **({} if self.fingerprints is None else {FINGERPRINTS: self.fingerprints.to_bytes()}),
        }

    def record(self, evaluation: EvaluationFacts) -> None:
        """Add an evaluation to the bundle and its model card, replacing one of the same data.

        Raises
        ------
        BundleError
            If the bundle is a zip, which is not rewritten.
        """
        key = (evaluation.dataset, evaluation.part, evaluation.setting)
        others = [e for e in self.facts.evaluations if (e.dataset, e.part, e.setting) != key]
        self.enter(evaluations=(*others, evaluation))

    def check_enterable(self) -> None:
        """Raise BundleError if the bundle is a zip, which is not rewritten."""
        if self.source.is_file():
            raise BundleError(
                f"{self.source}: facts can be added only to a bundle's folder, not to a zip; unzip it first"
            )

    def enter(self, **facts: Any) -> None:
        """Add facts to the bundle and its model card; raises BundleError if the bundle is a zip."""
        self.check_enterable()
        self.facts = self.facts.model_copy(update=facts)
        content = self.content()
        write_bytes(self.source / CARD, content[CARD])
        write_bytes(self.source / FACTS, content[FACTS])


def shipped_bundles(kind: str | None = None) -> dict[str, Path]:
    """The bundles that come with the package, by name; all, or those of one kind."""
    root = Path(str(resources.files(SHIPPED) / "shipped"))
    folders = [folder for folder in sorted(root.glob("*")) if (folder / FACTS).exists()]
    return {
        folder.name: folder
        for folder in folders
        if kind is None or _kind_in((folder / FACTS).read_bytes(), folder) == kind
    }


def shipped_training() -> dict[str, TrainingFacts]:
    """The training facts of each shipped bundle, by the bundle's name."""
    read = {name: json.loads((folder / FACTS).read_bytes()) for name, folder in shipped_bundles().items()}
    return {name: TrainingFacts.model_validate(facts["training"]) for name, facts in read.items()}


def kind_of_bundle(name_or_path: str | Path) -> str:
    """The kind of a bundle, ``detector`` or ``segmenter``; raises BundleError if it is missing or damaged.

    An ONNX file alone is a detector (groundglass.detect.own_model).
    """
    if Path(name_or_path).suffix.lower() == ".onnx":
        return "detector"
    source = _find(name_or_path, None)
    try:
        read = _zip_reader(source) if source.is_file() else _folder_reader(source)
        return _kind_in(read(FACTS), source)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{source}: is not a complete bundle ({error}); export it again") from error


def _kind_in(facts_text: bytes, source: Path) -> str:
    """The kind that the text of a ``bundle.json`` states; early bundles stated none and are detectors."""
    try:
        content = json.loads(facts_text)
    except ValueError as error:
        raise BundleError(f"{source}: {FACTS} is damaged ({error}); get a new copy of the bundle") from error
    return str(content.get("kind", "detector")) if isinstance(content, dict) else "file of another kind"


def _find(name_or_path: str | Path, kind: str | None) -> Path:
    shipped = shipped_bundles()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    path = Path(name_or_path)
    if (path / "run.json").is_file():
        folder = path / "bundle"
        if not (folder / FACTS).exists():
            raise BundleError(
                f"{path}: has no bundle yet; finish the run with --resume, or export it with "
                f"`groundglass bundle {path}`"
            )
        return folder
    if path.exists():
        return path
    names = ", ".join(shipped_bundles(kind)) or "none"
    raise BundleError(f"{name_or_path}: there is no such bundle, folder or zip (shipped: {names})")


def _fingerprints(read: Reader, facts: Facts, source: Path) -> Fingerprints | None:
    content = read_optional(read, FINGERPRINTS)
    if content is None:
        return None
    fingerprints = Fingerprints.from_bytes(content, source)
    if fingerprints.data != facts.training.fingerprint:
        raise BundleError(
            f"{source}: {FINGERPRINTS} does not belong to the data that the bundle was trained on; get "
            "a new copy of the bundle, or delete the file"
        )
    return fingerprints


def read_optional(read: Reader, name: str) -> bytes | None:
    """A file that not every bundle has; None if this one lacks it."""
    try:
        return read(name)
    except (FileNotFoundError, KeyError):
        return None


def _folder_reader(folder: Path) -> Reader:
    return lambda name: (folder / name).read_bytes()


def _zip_reader(path: Path) -> Reader:
    try:
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
    except (
        zlib.error,
        EOFError,
        RuntimeError,
    ) as error:  # damaged, encrypted, or compressed by an unknown method
        raise zipfile.BadZipFile(str(error)) from error
    return content.__getitem__
