"""Your own model instead of a bundle: an ONNX file with a description beside it, or a Python function."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from groundglass import __version__
from groundglass.bundle.engine import CLASSICAL, Engine, Outputs
from groundglass.bundle.facts import TrainingFacts
from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.errors import BundleError, count_of
from groundglass.labels import NEGATIVE, POSITIVE, canonical_labels
from groundglass.preprocess import Preprocessing
from groundglass.segment.segmenter import SegmenterBundle

Item = TypeVar("Item")
Predict = Callable[[NDArray[np.float32]], ArrayLike]
"""Takes inputs (float32, shape (slices, channels, height, width)) and returns an answer for each slice."""
PerChannel = tuple[float, float, float] | None
BATCH = 16
"""Number of slices passed to a Python function at a time."""
SUFFIX = ".onnx"
EXAMPLE = (
    "a description begins with 'gives: probabilities' (or logits) and 'preprocessing: {size: [224, 224]}'"
)
TOLERANCE = 1e-3
"""Tolerance for probabilities outside [0, 1] and for sums that differ from 1."""


class Description(BaseModel):
    """What must be known about a model in order to run it; ``model.yaml`` describes ``model.onnx``.

    Attributes
    ----------
    gives
        Whether the model gives logits, or probabilities in [0, 1].
    classes
        The classes in the order of the model's outputs, including COVID-19. A single output belongs to the
        second of two classes.
    preprocessing
        How a slice becomes the model's input.
    channel_mean, channel_std
        Means and standard deviations of the three channels, as timm and torchvision state them. They replace
        ``mean`` and ``std`` of the preprocessing.
    output
        The name of the output to use, if an ONNX file has several.
    threshold
        The verdict is ``covid`` at or above this probability of COVID-19.
    trained_on
        The datasets that the model was trained on, whether or not Groundglass knows them; None if not stated.
    name, description
        For reports.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gives: Literal["logits", "probabilities"]
    classes: tuple[str, ...] = (NEGATIVE, POSITIVE)
    preprocessing: Preprocessing
    channel_mean: PerChannel = None
    channel_std: PerChannel = None
    output: str = ""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    trained_on: tuple[str, ...] | None = None
    name: str = ""
    description: str = "A model that was not trained by Groundglass."

    @field_validator("classes")
    @classmethod
    def _one_is_covid(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        named = tuple(canonical_labels(classes))
        if len(set(named)) != len(named) or len(named) < 2 or named.count(POSITIVE) != 1:
            raise ValueError(f"name two or more different classes, one of them {POSITIVE}")
        return named

    @model_validator(mode="after")
    def _channels_are_three(self) -> Self:
        if (self.channel_mean or self.channel_std) and self.preprocessing.channels != 3:
            raise ValueError("channel_mean and channel_std need preprocessing.channels: 3")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a description; raises BundleError if it is missing or wrong."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(
                f"{path}: not found; it describes the model's input and output: {EXAMPLE} (docs/own-model.md)"
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BundleError(f"{path}: is not readable as YAML ({' '.join(str(error).split())})") from error
        if not isinstance(content, dict):
            raise BundleError(f"{path}: does not describe a model; {EXAMPLE} (docs/own-model.md)")
        return cls.checked(content, path)

    @classmethod
    def checked(cls, content: dict[str, Any], origin: Path | str) -> Self:
        """Check a description; raises BundleError that names the first wrong value."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            remedy = ""
            if where.startswith(("preprocessing.mean", "preprocessing.std")):
                remedy = "; one value for each channel is channel_mean or channel_std, beside preprocessing"
            told = f"{where}: {problem['msg']}" if where else problem["msg"]
            raise BundleError(f"{origin}: {told}{remedy} (docs/own-model.md)") from error

    def logits(self, answer: ArrayLike, source: Path | str) -> NDArray[np.float64]:
        """One answer of the model, as :meth:`BundleFacts.answer` takes it.

        Parameters
        ----------
        answer
            The model's values for one slice.
        source
            The model, for errors.

        Returns
        -------
        float64, shape () for two classes, else (classes,).

        Raises
        ------
        BundleError
            If there is not one value for each class, or they are not probabilities although they should be.
        """
        values = np.asarray(answer, dtype=np.float64).ravel()
        if values.size not in (len(self.classes), 1) or (values.size == 1 and len(self.classes) != 2):
            raise BundleError(
                f"{source}: gives {count_of(values.size, 'value')} for a slice, but the classes are "
                f"{', '.join(self.classes)}; name the classes in the order of the outputs"
            )
        if self.gives == "probabilities":
            _check_probabilities(values, source)
            if values.size == 1:
                values = np.array([1 - values[0], values[0]])
            with np.errstate(divide="ignore"):
                values = np.log(values.clip(0, 1))
        elif values.size == 1:
            values = np.array([0.0, values[0]])
        if len(self.classes) > 2:
            return values
        covid = self.classes.index(POSITIVE)
        return np.asarray(values[covid] - values[1 - covid])


def _check_probabilities(values: NDArray[np.float64], source: Path | str) -> None:
    if np.isnan(values).any():  # the detector reports this and names the slice
        return
    if values.min() < -TOLERANCE or values.max() > 1 + TOLERANCE:
        raise BundleError(
            f"{source}: gives values from {values.min():.3g} to {values.max():.3g}, which are not "
            "probabilities; state 'gives: logits' if a sigmoid or softmax is still to be applied"
        )
    if values.size > 1 and abs(values.sum() - 1) > TOLERANCE:
        raise BundleError(
            f"{source}: gives probabilities that sum to {values.sum():.3f} instead of 1; state 'gives: "
            "logits' if they are not probabilities, or output only the probability of COVID-19"
        )


@dataclass(repr=False)
class OwnModel(Bundle):
    """A model without a bundle.

    Attributes
    ----------
    described
        Its input and output.
    predict
        The Python function that answers; None for an ONNX file.
    """

    described: Description = field(kw_only=True)
    predict: Predict | None = None

    @classmethod
    def of_file(cls, path: Path) -> "OwnModel":
        """Read an ONNX file and the YAML file of the same name beside it.

        Raises
        ------
        BundleError
            If one of them is missing or wrong, or they do not match.
        """
        described = Description.read(path.with_suffix(".yaml"))
        try:
            graph = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
        return cls._made(described, graph, path)

    @classmethod
    def of_function(cls, predict: Predict, described: Description) -> "OwnModel":
        """A model from a Python function and the description of its input and output."""
        return cls._made(described, b"", Path(described.name), predict)

    @classmethod
    def _made(
        cls, described: Description, graph: bytes, source: Path, predict: Predict | None = None
    ) -> "OwnModel":
        needs_lungs = described.preprocessing.lungs != "none"
        segmenter = SegmenterBundle.load(described.preprocessing.segmenter) if needs_lungs else None
        # The description affects the results, so it is part of their identity.
        identity = graph + described.model_dump_json().encode()
        facts = BundleFacts(
            name=described.name or source.stem,
            description=described.description,
            groundglass=__version__,
            graph_sha256=hashlib.sha256(identity).hexdigest(),
            preprocessing=described.preprocessing,
            chosen=(),
            training=TrainingFacts.stated(described.trained_on),
            classes=described.classes if len(described.classes) > 2 else (),
            temperature=1.0,
            threshold=described.threshold,
            segmenter_sha256="" if segmenter is None else segmenter.facts.graph_sha256,
        )
        return cls(facts, graph, "", source, None, segmenter, described=described, predict=predict)

    def engine(self) -> "OwnEngine":
        """Whatever runs the model."""
        return OwnEngine(self)

    def check_enterable(self) -> None:
        """Raise BundleError, because results cannot be recorded in a model without a bundle."""
        raise BundleError(
            f"{self.source}: results are recorded in a bundle, and this model has none; leave out --record"
        )


class OwnEngine:
    """Runs your own model on slices, one after the other, as groundglass.bundle.engine.Engine does.

    Raises
    ------
    BundleError
        If an ONNX file cannot be read, or does not take the input that its description states.
    """

    def __init__(self, model: OwnModel) -> None:
        self._model = model
        described = model.described
        channels, size = described.preprocessing.channels, described.preprocessing.size
        mean, std = (
            np.array([default] * channels if values is None else values, dtype=np.float32)[:, None, None]
            for default, values in ((0.0, described.channel_mean), (1.0, described.channel_std))
        )
        self._scale = (mean, std) if described.channel_mean or described.channel_std else None
        self._last = False
        if model.predict is None:
            self._last, self._output = _signature(model, (channels, *size))
            shape = (*size, channels) if self._last else (channels, *size)
            self._engine = _opened(model, shape)

    def stream(
        self, items: Iterable[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, Outputs | None]]:
        """As groundglass.bundle.engine.Engine.stream, with the logits as the only output."""
        inputs = ((item, None if one is None else self._input(one)) for item, one in items)
        answers = self._asked(inputs) if self._model.predict is not None else self._run(inputs)
        for item, answer in answers:
            logits = None if answer is None else self._model.described.logits(answer, self._model.source)
            yield item, None if logits is None else (logits,)  # type: ignore[misc]

    def _input(self, one: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._scale is not None:
            # Undo the scaling common to all channels, and apply that of each channel.
            preprocessing = self._model.described.preprocessing
            grey = one * np.float32(preprocessing.std) + np.float32(preprocessing.mean)
            one = (grey - self._scale[0]) / self._scale[1]
        return np.ascontiguousarray(np.moveaxis(one, 0, -1)) if self._last else one

    def _run(
        self, inputs: Iterable[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, ArrayLike | None]]:
        for item, outputs in self._engine.stream(inputs):
            yield item, None if outputs is None else outputs[self._output]

    def _asked(
        self, inputs: Iterable[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, ArrayLike | None]]:
        waiting: list[tuple[Item, NDArray[np.float32] | None]] = []
        for one in inputs:
            waiting.append(one)
            if sum(content is not None for _, content in waiting) == BATCH:
                yield from self._answered(waiting)
                waiting = []
        yield from self._answered(waiting)

    def _answered(
        self, waiting: Sequence[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, ArrayLike | None]]:
        given = [content for _, content in waiting if content is not None]
        answers = iter(self._ask(np.stack(given)) if given else ())
        for item, content in waiting:
            yield item, None if content is None else next(answers)

    def _ask(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        assert self._model.predict is not None
        answers = np.asarray(self._model.predict(batch), dtype=np.float64)
        if answers.ndim not in (1, 2) or len(answers) != len(batch):
            raise BundleError(
                f"{self._model.source}: returned an array of shape {answers.shape} for {len(batch)} slices; "
                f"it must return shape (slices,) or (slices, classes)"
            )
        return answers


def _signature(model: OwnModel, shape: tuple[int, int, int]) -> tuple[bool, int]:
    """Whether a graph expects channels last, and the index of the output with the answer."""
    import openvino as ov

    source = model.source
    if CLASSICAL in model.graph:
        raise BundleError(
            f"{source}: contains scikit-learn operators (ai.onnx.ml), which expect tables; pass the fitted "
            f"pipeline as a Python function (docs/own-model.md)"
        )
    try:
        graph = ov.Core().read_model(model.graph, b"")
    except RuntimeError as error:
        raise BundleError(
            f"{source}: cannot be read as an ONNX graph ({_reason(error)}); export it as one file, without "
            "external data"
        ) from error
    if len(graph.inputs) != 1:
        names = ", ".join(_name(one) for one in graph.inputs)
        raise BundleError(f"{source}: has {len(graph.inputs)} inputs ({names}); it must have one, the slice")
    taken = graph.inputs[0].partial_shape
    rows, columns = shape[1:]
    last = not _fits(taken, shape) and _fits(taken, (rows, columns, shape[0]))
    if not (last or _fits(taken, shape)):
        raise BundleError(
            f"{source}: expects an input of shape {taken}, but its description states {list(shape)} "
            f"(channels, height, width) for each slice; correct preprocessing.size or "
            f"preprocessing.channels, or export the "
            "model with a batch axis of 1 or of any length"
        )
    if not graph.inputs[0].element_type.is_real():
        kind = graph.inputs[0].element_type.get_type_name()
        raise BundleError(f"{source}: expects {kind}; export it with float32 input")
    return last, _output_of(graph, model)


def _fits(taken: Any, shape: tuple[int, int, int]) -> bool:
    if taken.rank.is_dynamic:
        return True
    wanted = (1, *shape)
    return len(taken) == len(wanted) and all(
        axis.is_dynamic or axis.get_length() == length for axis, length in zip(taken, wanted, strict=True)
    )


def _output_of(graph: Any, model: OwnModel) -> int:
    names = [_name(one) for one in graph.outputs]
    wanted = model.described.output
    if not wanted and len(names) == 1:
        return 0
    for number, one in enumerate(graph.outputs):
        if wanted and wanted in one.get_names():
            return number
    problem = f"has no output {wanted}" if wanted else f"has {len(names)} outputs"
    raise BundleError(
        f"{model.source}: {problem}; name the one with the answer in {model.source.with_suffix('.yaml').name}, as "
        f"output: {' or '.join(names)}"
    )


def _name(port: Any) -> str:
    return min(port.get_names(), default="without a name")


def _opened(model: OwnModel, shape: tuple[int, int, int]) -> Engine:
    try:
        return Engine(model.graph, shape)
    except RuntimeError as error:
        raise BundleError(
            f"{model.source}: does not run on an input of shape {(1, *shape)} ({_reason(error)}); correct "
            "preprocessing.size, or export the model with a batch axis of 1 or of any length"
        ) from error


def _reason(error: Exception) -> str:
    """The line of OpenVINO's message that states the problem."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if not line.startswith("Exception from")), type(error).__name__
    )
