"""Export a trained network as a bundle: the ONNX graph, its verification, calibration and threshold, the facts."""

import hashlib
import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from groundglass import __version__
from groundglass.bundle.engine import Engine, Outputs, Precision
from groundglass.bundle.facts import Choice, Part, TrainingFacts
from groundglass.bundle.fingerprints import Fingerprints
from groundglass.data.manifest import fingerprints_by_source
from groundglass.data.registry import DATASETS
from groundglass.data.splits import groups
from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.detect.findings import labelled_predictions
from groundglass.errors import GroundglassError
from groundglass.evaluation.calibration import apply_temperature, fit_temperature
from groundglass.evaluation.metrics import evaluate
from groundglass.evaluation.operating_point import choose_threshold
from groundglass.evaluation.predictions import write_predictions
from groundglass.labels import POSITIVE
from groundglass.preprocess import Preprocessing
from groundglass.recipe.parts import Data, DetectorRecipe, OperatingPoint, Recipe
from groundglass.recipe.recipe import dump_recipe
from groundglass.recipe.tasks import GroundedRecipe
from groundglass.segment.segmenter import SegmenterBundle, segmenter_for
from groundglass.train.run import Run
from groundglass.train.slices import PartData

OPSET = 17
VALIDATION = "the validation set"
TOLERANCE = 5e-4
"""Largest difference of the logit between training and the exported graph, relative if the logit exceeds 1.

Rounding to 32 bits gives up to 2e-4 after a head of several dense layers; a probability changes by at most 1.3e-4.
"""

SMALL = 1024
"""Smaller weight arrays stay in 32 bits: they take little space."""


@dataclass(frozen=True)
class DetectorGraph:
    """A detector's exported graph and facts, before calibration.

    Attributes
    ----------
    graph
        Maps ``images`` to ``logits`` and ``evidence``.
    expected
        Logits of the validation slices by the library that trained it, shape (slices,) or (slices, classes).
    chosen
        Earlier choices, and the part of the data they were made on.
    precision
        The precision in which users' processors compute the network, and in which temperature and threshold
        are chosen; the graph is compared with ``expected`` in 32 bits.
    """

    graph: bytes
    expected: NDArray[np.floating[Any]]
    chosen: tuple[Choice, ...]
    precision: Precision = "f32"


def onnx_graph(model: nn.Module, shape: tuple[int, int, int], outputs: list[str]) -> bytes:
    """The ONNX graph of a network, from ``images`` to ``outputs``, for any batch size.

    Parameters
    ----------
    model
        The network.
    shape
        Channels, height and width of its input.
    outputs
        Names of its outputs, in their order.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter is sufficient for convolutional networks and needs no further package.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # the number of outputs is a constant
        torch.onnx.export(
            model.eval(),
            (torch.zeros(1, *shape),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ("images", *outputs)},
        )
    graph = buffer.getvalue()
    onnx.checker.check_model(onnx.load_from_string(graph))
    return graph


def halve_weights(graph: bytes) -> bytes:
    """The graph with its weights stored in 16 bits and converted to 32 on use: half the size.

    The largest relative rounding error of a weight is 2 ** -11, from 2 ** -14 on. Weights that do not fit 16
    bits stay in 32.
    """
    model = onnx.load_from_string(graph)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALL:
            continue
        name, weights = tensor.name, numpy_helper.to_array(tensor)
        if np.abs(weights).max() > np.finfo(np.float16).max:
            continue
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    buffer = io.BytesIO()
    onnx.save(model, buffer)
    return buffer.getvalue()


def run_graph(
    graph: bytes, preprocessing: Preprocessing, grey8: NDArray[np.uint8], precision: Precision = "f32"
) -> Iterator[Outputs]:
    """Outputs for slices, uint8 (slices, height, width), from the same engine that users run."""
    engine = Engine(graph, (preprocessing.channels, *preprocessing.size), precision)
    return engine.run(preprocessing.model_input(one[None])[0] for one in grey8)


def relative_difference(found: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]) -> float:
    """The largest difference between two arrays of the same shape; relative if an expected value exceeds 1."""
    return float(np.max(np.abs(found - expected) / np.maximum(1.0, np.abs(expected))))


def check_difference(run: Run, difference: float, tolerance: float, what: str) -> None:
    """Raise GroundglassError if a graph differs from the trained network by more than a tolerance."""
    if difference > tolerance:
        raise GroundglassError(
            f"{run.folder}: the exported graph differs from the trained network by {difference:.2g} in the {what}"
        )


def finish_bundle(
    run: Run, recipe: DetectorRecipe, exported: DetectorGraph, manifest: pd.DataFrame, validation: PartData
) -> Bundle:
    """Verify and calibrate a detector's graph, choose its threshold, and write bundle and predictions.

    Temperature and threshold are chosen on the validation set, from the graph's own answers. The bundle gets
    the fingerprints of all slices with their part of the split.

    Raises
    ------
    GroundglassError
        If the graph's logits differ from those expected by more than 5e-4 (relative beyond 1).
    """
    segmenter = segmenter_for(recipe.preprocessing)
    inner = segmenter.bundle if segmenter is not None else None
    preprocessing = _portable(recipe.preprocessing, inner)
    graph, precision = exported.graph, exported.precision
    logits = _logits(graph, preprocessing, validation, "f32")
    difference = relative_difference(logits, exported.expected)
    check_difference(run, difference, TOLERANCE, "logit")
    if precision != "f32":
        logits = _logits(graph, preprocessing, validation, precision)
    several = recipe.data.several
    temperature = fit_temperature(logits, validation.target)
    threshold = _threshold(recipe, apply_temperature(logits, temperature), validation)
    facts = BundleFacts(
        name=recipe.name,
        description=recipe.description,
        groundglass=__version__,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        preprocessing=preprocessing,
        classes=several,
        temperature=temperature,
        threshold=threshold,
        precision=precision,
        segmenter_sha256=inner.facts.graph_sha256 if inner is not None else "",
        chosen=(*_stand_in(run), *exported.chosen, *_chosen(recipe.operating_point, temperature, threshold)),
        training=training_facts(recipe, run, manifest),
    )
    predictions = labelled_predictions(validation.rows, [facts.answer(one) for one in logits], several)
    write_predictions(predictions, run.predictions_file)
    facts = facts.model_copy(update={"validation": evaluate(predictions, seed=recipe.seed)})
    paths, parts = manifest["path"].tolist(), manifest["split"].tolist()
    fingerprints = Fingerprints.of(paths, parts, facts.training.fingerprint)
    bundle = Bundle(facts, graph, dump_recipe(recipe), run.bundle_folder, fingerprints, inner)
    bundle.write(run.bundle_folder)
    run.update(onnx_difference=difference, temperature=temperature, threshold=threshold)
    return bundle


def _stand_in(run: Run) -> tuple[Choice, ...]:
    facts = run.facts()
    if "stands_in_for" not in facts:
        return ()
    reason = f"in place of {facts['stands_in_for']}, whose weights are not available"
    return (Choice(what="backbone", values={"name": facts["backbone"]}, criterion=reason),)


def _logits(
    graph: bytes, preprocessing: Preprocessing, part: PartData, precision: Precision
) -> NDArray[np.float64]:
    outputs = run_graph(graph, preprocessing, part.grey, precision)
    return np.array([logits for logits, *_ in outputs], dtype=float)


def _threshold(recipe: DetectorRecipe, probability: NDArray[np.float64], validation: PartData) -> float:
    covid = validation.classes.index(POSITIVE)
    point = recipe.operating_point
    return choose_threshold(
        validation.truth,
        probability if probability.ndim == 1 else probability[:, covid],
        groups(validation.rows),
        criterion=point.criterion,
        target=point.target,
        seed=recipe.seed,
    )


def _portable(preprocessing: Preprocessing, segmenter: SegmenterBundle | None) -> Preprocessing:
    """Preprocessing with its segmenter's name instead of its path; with its hash, too, if it is not shipped."""
    if segmenter is None:
        return preprocessing
    name, sha256 = segmenter.facts.name, segmenter.facts.graph_sha256
    shipped = SegmenterBundle.is_shipped(name) and SegmenterBundle.load(name).facts.graph_sha256 == sha256
    return preprocessing.model_copy(update={"segmenter": name if shipped else f"{name}-{sha256[:8]}"})


def _chosen(point: OperatingPoint, temperature: float, threshold: float) -> tuple[Choice, ...]:
    criterion = point.criterion + (f" {point.target:g}" if point.target is not None else "")
    return (
        Choice(
            what="calibration",
            values={"temperature": temperature},
            criterion="least negative log-likelihood",
            data=VALIDATION,
        ),
        Choice(
            what="threshold",
            values={"probability": threshold},
            criterion=criterion.replace("_", " "),
            data=VALIDATION,
        ),
    )


def epochs_run(run: Run) -> int:
    """Number of trained epochs, also of a run that stopped early: each has a line in the log."""
    return len(run.log_file.read_text(encoding="utf-8").splitlines()) - 1


def kept_epoch(run: Run, by: str) -> Choice:
    """Which epoch was kept, and why."""
    return Choice(
        what="epoch",
        values={"kept": run.facts()["best_epoch"], "of": epochs_run(run)},
        criterion="the last" if by == "last" else f"the best {by}",
        data="" if by == "last" else VALIDATION,
    )


def training_facts(recipe: Recipe, run: Run, manifest: pd.DataFrame) -> TrainingFacts:
    """The training data of a run, for its bundle's facts."""
    facts, data = run.facts(), recipe.data
    parts = {}
    for part in ("train", "val", "test"):
        rows = manifest[manifest["split"] == part]
        patients = rows["patient"]
        parts[part] = Part(
            slices=len(rows),
            positive=int((rows["label"] == POSITIVE).sum()),
            patients=patients.nunique() if len(rows) and (patients != "").all() else None,
        )
    masks: tuple[str, ...] = ()
    if isinstance(recipe, GroundedRecipe):
        masks = SegmenterBundle.load(recipe.model.segmenter).facts.training.sources
    return TrainingFacts(
        **_of_datasets(data, masks),
        sources=tuple(sorted(set(manifest["source"]) - {"", data.leave_out})),
        parts=parts,
        fingerprint=facts["fingerprint"],
        fingerprints=fingerprints_by_source(manifest) if data.by_source else {},
        masks=masks,
        seed=recipe.seed,
        best_epoch=facts.get("best_epoch"),
        versions=facts["versions"],
    )


def _of_datasets(data: Data, masks: Iterable[str]) -> dict[str, Any]:
    """Titles, licences and citations of the datasets that were trained on, without repetition, and their splits.

    The sources of the segmenter's ``masks`` add their licence and citation.
    """
    # A known dataset is a single source; any other may hold more sources than the one left out.
    used = [part for part in data.datasets if part.dataset not in DATASETS or part.dataset != data.leave_out]
    known = [DATASETS.get(part.dataset) for part in used]
    of_masks = [DATASETS.get(name) for name in masks]
    without = f", without {data.leave_out}" if data.leave_out is not None else ""
    names = [part.name if about else Path(part.dataset).name for part, about in zip(used, known, strict=True)]
    return {
        "dataset": " + ".join(names),
        "title": _once(about.title if about else "the user's own dataset" for about in known),
        "licence": _once(about.licence if about else "not stated" for about in (*known, *of_masks)),
        "citation": _once(about.citation if about else "none" for about in (*known, *of_masks)),
        "splits": {name: part.scheme + without for name, part in zip(names, used, strict=True)},
    }


def _once(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
