"""From a trained module to a bundle: the ONNX graph, calibration and threshold, the facts."""

import hashlib
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from groundglass import __version__
from groundglass.bundle.engine import Engine, Precision
from groundglass.bundle.facts import Choice, Part, TrainingFacts
from groundglass.bundle.fingerprints import Fingerprints
from groundglass.data.manifest import fingerprints_by_source
from groundglass.data.registry import DATASETS
from groundglass.data.splits import groups
from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.detect.findings import labelled_predictions
from groundglass.errors import GroundglassError
from groundglass.evaluate.calibration import apply_temperature, fit_temperature
from groundglass.evaluate.metrics import evaluate
from groundglass.evaluate.operating_point import choose_threshold
from groundglass.evaluate.predictions import write_predictions
from groundglass.labels import POSITIVE
from groundglass.preprocess import Preprocessing
from groundglass.recipe.parts import CommonRecipe, Data, DetectorRecipe, OperatingPoint, Source
from groundglass.recipe.recipe import Recipe, dump_recipe
from groundglass.recipe.tasks import GroundedRecipe
from groundglass.segment.segmenter import SegmenterBundle, segmenter_for
from groundglass.train.loop import PartData
from groundglass.train.models import Classifier
from groundglass.train.module import ClassifierModule
from groundglass.train.run import Run

OPSET = 17
VALIDATION = "the validation part"
TOLERANCE = 5e-4
"""Largest difference in the logit between training and the exported graph, relative where the logit passes 1.

Rounding in 32 bits gives up to 2e-4 behind a head of several dense layers; a probability moves by 1.3e-4 at most.
"""

CHECKED, EVIDENCE_TOLERANCE = 4, 1e-3
"""Slices whose evidence is compared, and the largest difference as a share of the greatest evidence."""


class _Explained(nn.Module):
    """The classifier as the bundle's graph has it: logits and evidence."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.explain(images)


def export_graph(model: Classifier, shape: tuple[int, int, int]) -> bytes:
    """The ONNX graph of a classifier, from ``images`` to ``logits`` and ``evidence``, for any batch size.

    Parameters
    ----------
    model
        The classifier.
    shape
        Channels, height and width of its input.
    """
    return onnx_graph(_Explained(model), shape, ["logits", "evidence"])


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
        # The TorchScript exporter is enough for convolutional networks, and needs no further package.
        warnings.simplefilter("ignore", DeprecationWarning)
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


def export_bundle(
    run: Run, recipe: Recipe, module: ClassifierModule, manifest: pd.DataFrame, validation: PartData
) -> Bundle:
    """Write the bundle of a network's run, and the run's predictions on its validation part.

    Raises
    ------
    GroundglassError
        As :func:`finish_bundle`, and if the graph's evidence differs from torch's.
    """
    preprocessing = recipe.preprocessing
    graph = export_graph(module.model, (preprocessing.channels, *preprocessing.size))
    _check_evidence(run, module, graph, validation)
    epoch = kept_epoch(run, recipe.training.best_by)
    return finish_bundle(run, recipe, graph, module.logits(validation.grey), manifest, validation, (epoch,))


def _check_evidence(run: Run, module: ClassifierModule, graph: bytes, validation: PartData) -> None:
    """Refuse a graph whose heatmaps are not the network's, as a few slices show."""
    preprocessing = module.recipe.preprocessing
    inputs = preprocessing.model_input(validation.grey[:CHECKED])
    with torch.no_grad():
        expected = module.model.eval().explain(torch.from_numpy(inputs))[1].numpy()
    engine = Engine(graph, (preprocessing.channels, *preprocessing.size))
    found = np.stack([outputs[1] for outputs in engine.run(inputs)])
    difference = float(np.abs(found - expected).max() / max(1e-6, np.abs(expected).max()))
    if difference > EVIDENCE_TOLERANCE:
        raise GroundglassError(
            f"{run.folder}: the exported graph differs from what was trained by {difference:.2g} in the evidence"
        )


def finish_bundle(
    run: Run,
    recipe: DetectorRecipe,
    graph: bytes,
    expected: NDArray[np.floating[Any]],
    manifest: pd.DataFrame,
    validation: PartData,
    chosen: tuple[Choice, ...],
    *,
    furthest: float | None = None,
    precision: Precision = "f32",
) -> Bundle:
    """Calibrate a detector's graph, choose its threshold, and write its bundle and the run's predictions.

    The bundle gets the fingerprints of all slices with their part of the split.

    Temperature and threshold are chosen on the validation part, from the answers of the graph itself.

    Parameters
    ----------
    run, recipe, manifest
        The run, its recipe and its data.
    graph
        From ``images`` to ``logits``, ``evidence`` and perhaps ``distance``.
    expected
        Logits of the validation slices by the library that trained it, shape (slices,) or (slices, classes).
    validation
        The validation part.
    chosen
        What was chosen before, and on what.
    furthest
        The distance from the training slices up to which a slice is like them, where the graph gives one.
    precision
        What the network is computed in for users, temperature and threshold included; it is compared in 32 bits.

    Raises
    ------
    GroundglassError
        If the graph's logits differ from those expected by more than 5e-4 (relative beyond 1).
    """
    segmenter = segmenter_for(recipe.preprocessing)
    inner = segmenter.bundle if segmenter is not None else None
    preprocessing = _portable(recipe.preprocessing, inner)
    logits = _answered(graph, preprocessing, validation)
    difference = float(np.max(np.abs(logits - expected) / np.maximum(1.0, np.abs(expected))))
    if difference > TOLERANCE:
        raise GroundglassError(
            f"{run.folder}: the exported graph differs from what was trained by {difference:.2g} in the logit"
        )
    if precision != "f32":
        logits = _answered(graph, preprocessing, validation, precision)
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
        furthest=furthest,
        precision=precision,
        segmenter_sha256=inner.facts.graph_sha256 if inner is not None else "",
        chosen=(*_stand_in(run), *chosen, *_chosen(recipe.operating_point, temperature, threshold)),
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


def _answered(
    graph: bytes, preprocessing: Preprocessing, part: PartData, precision: Precision = "f32"
) -> NDArray[np.float64]:
    """Logits of a part's slices by the engine that will answer for users."""
    engine = Engine(graph, (preprocessing.channels, *preprocessing.size), precision)
    inputs = (preprocessing.model_input(grey8[None])[0] for grey8 in part.grey)
    return np.array([outputs[0] for outputs in engine.run(inputs)], dtype=float)


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
    """Preprocessing that names its segmenter, not where it lay; one that is not shipped by its hash too."""
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
    """Epochs that were trained, also of a run that was stopped: each is a line of the log."""
    return len(run.log_file.read_text(encoding="utf-8").splitlines()) - 1


def kept_epoch(run: Run, by: str) -> Choice:
    """Which epoch was kept, and why."""
    return Choice(
        what="epoch",
        values={"kept": run.facts()["best_epoch"], "of": epochs_run(run)},
        criterion="the last" if by == "last" else f"the best {by}",
        data="" if by == "last" else VALIDATION,
    )


def training_facts(recipe: CommonRecipe, run: Run, manifest: pd.DataFrame) -> TrainingFacts:
    """What a run was trained on, for its bundle's facts."""
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
    return TrainingFacts(
        **_of_datasets(data, *([recipe.masks] if isinstance(recipe, GroundedRecipe) else [])),
        sources=tuple(sorted(set(manifest["source"]) - {"", data.leave_out})),
        parts=parts,
        fingerprint=facts["fingerprint"],
        fingerprints=fingerprints_by_source(manifest) if data.by_source else {},
        masks=(recipe.masks.name,) if isinstance(recipe, GroundedRecipe) else (),
        seed=recipe.seed,
        best_epoch=facts.get("best_epoch"),
        versions=facts["versions"],
    )


def _of_datasets(data: Data, *masks: Source) -> dict[str, Any]:
    """What is known of the datasets that were trained on, each thing once, and how they were divided.

    Of those whose masks were trained on, licence and citation.
    """
    # A known dataset is one source; any other may hold more than the one that was left out.
    used = [part for part in data.datasets if part.dataset not in DATASETS or part.dataset != data.leave_out]
    known = [DATASETS.get(part.dataset) for part in used]
    of_masks = [DATASETS.get(part.dataset) for part in masks]
    without = f", without {data.leave_out}" if data.leave_out is not None else ""
    names = [part.name if about else Path(part.dataset).name for part, about in zip(used, known, strict=True)]
    return {
        "dataset": " + ".join(names),
        "title": _once(about.title if about else "a set of the user's own" for about in known),
        "licence": _once(about.licence if about else "not stated" for about in (*known, *of_masks)),
        "citation": _once(about.citation if about else "none" for about in (*known, *of_masks)),
        "splits": {name: part.scheme + without for name, part in zip(names, used, strict=True)},
    }


def _once(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
