"""From a trained segmenter to its bundle: the ONNX graph, the threshold, the facts."""

import hashlib
import io
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from groundglass import __version__
from groundglass.bundle.engine import Engine
from groundglass.bundle.facts import Choice
from groundglass.bundle.fingerprints import Fingerprints
from groundglass.errors import GroundglassError
from groundglass.evaluate.overlap import evaluate_overlap
from groundglass.evaluate.predictions import read_overlaps, write_overlaps
from groundglass.recipe.recipe import dump_recipe
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.segment.masks import PostProcessing
from groundglass.segment.segmenter import Segmenter, SegmenterBundle, SegmenterFacts
from groundglass.train.export import VALIDATION, kept_epoch, onnx_graph, training_facts
from groundglass.train.run import Run
from groundglass.train.segmentation.judge import overlaps
from groundglass.train.segmentation.module import SegmenterModule
from groundglass.train.segmentation.slices import MaskedPart, case_codes

TOLERANCE = {"f32": 0.005, "bf16": 0.03}
"""Largest mean difference of a probability between torch and the exported graph, by the graph's precision."""
DOUBTFUL = 0.02
"""Pixels of a lower probability are not compared: they are most, and would hide a difference of the others."""
THRESHOLDS = np.arange(0.2, 0.71, 0.05)
"""Of the lesion probability; the best on the validation part is taken."""
SMALL = 1024
"""Weights of fewer values stay in 32 bits: they take no room."""


class _Probabilities(nn.Module):
    """The segmenter as the bundle's graph has it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return torch.sigmoid(self.model(images))


def export_segmenter(
    run: Run,
    recipe: SegmentationRecipe,
    module: SegmenterModule,
    manifest: pd.DataFrame,
    validation: MaskedPart,
) -> SegmenterBundle:
    """Write the bundle of a run, and ``masks.csv``, how it overlaps with the truth of its validation part.

    The threshold on the lesion probability is chosen on the validation part, from the answers of the exported
    graph itself; weights are kept in 16 bits.

    Raises
    ------
    GroundglassError
        If the graph's probabilities differ from torch's by more than their precision explains.
    """
    preprocessing = recipe.preprocessing
    shape = (preprocessing.channels, *preprocessing.size)
    graph = halve_weights(onnx_graph(_Probabilities(module.model), shape, ["masks"]))
    inputs = (preprocessing.model_input(grey[None])[0] for grey in validation.grey)
    exported = np.stack([masks for (masks,) in Engine(graph, shape, recipe.deploy_precision).run(inputs)])
    difference = _difference(exported, module.probabilities(validation.grey))
    if difference > TOLERANCE[recipe.deploy_precision]:
        raise GroundglassError(
            f"{run.folder}: the exported graph differs from torch by {difference:.2g} in the mean probability"
        )
    threshold = best_threshold(exported[:, 1], validation.masks[..., 1], case_codes(validation.rows))
    rules = recipe.post_processing.model_copy(update={"lesion_threshold": threshold})
    facts = SegmenterFacts(
        name=recipe.name,
        description=recipe.description,
        groundglass=__version__,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        preprocessing=preprocessing,
        precision=recipe.deploy_precision,
        post_processing=rules,
        chosen=_chosen(recipe, run, rules),
        training=training_facts(recipe, run, manifest),
    )
    fingerprints = Fingerprints.of(
        manifest["path"].tolist(), manifest["split"].tolist(), facts.training.fingerprint
    )
    bundle = SegmenterBundle(facts, graph, dump_recipe(recipe), run.bundle_folder, fingerprints)
    write_overlaps(run.folder / "masks.csv", overlaps(Segmenter(bundle), validation.rows))
    evaluation = evaluate_overlap(read_overlaps(run.folder / "masks.csv"), seed=recipe.seed)
    bundle.facts = facts.model_copy(update={"validation": evaluation})
    bundle.write(run.bundle_folder)
    run.update(onnx_difference=difference, lesion_threshold=threshold)
    return bundle


def _difference(exported: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The larger of the mean differences of lungs and of lesions, both of shape (slices, 2, height, width)."""
    differences = []
    for found, true in zip(exported.swapaxes(0, 1), wanted.swapaxes(0, 1), strict=True):
        compared = np.maximum(found, true) > DOUBTFUL
        differences.append(float(np.abs(found - true)[compared].mean()) if compared.any() else 0.0)
    return max(differences)


def best_threshold(
    probabilities: NDArray[np.float32], truth: NDArray[np.uint8], cases: NDArray[np.intp]
) -> float:
    """The threshold with the best Dice, as the mean over cases; 1 for a case without any, of which none is found.

    Parameters
    ----------
    probabilities, truth
        Shape (slices, height, width); truth is 0 or 1.
    cases
        The case of each slice, numbered from 0.
    """
    members = [cases == case for case in np.unique(cases)]

    def mean_dice(threshold: float) -> float:
        found = probabilities >= threshold
        dice = []
        for member in members:
            both = np.count_nonzero(found[member]) + np.count_nonzero(truth[member])
            common = np.count_nonzero(found[member] & (truth[member] > 0))
            dice.append(2 * common / both if both else 1.0)
        return float(np.mean(dice))

    return round(float(max(THRESHOLDS, key=mean_dice)), 2)


def halve_weights(graph: bytes) -> bytes:
    """The graph with its weights kept in 16 bits and brought back to 32 where they are used: half the size.

    The largest relative rounding error of a weight is 2 ** -11, from 2 ** -14 on. Weights that 16 bits cannot
    hold stay in 32.
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


def _chosen(recipe: SegmentationRecipe, run: Run, rules: PostProcessing) -> tuple[Choice, ...]:
    start = recipe.training.start_from
    return (
        *([Choice(what="start", values={"weights of": Path(start).name})] if start else []),
        kept_epoch(run, recipe.training.best_by),
        Choice(
            what="threshold",
            values={"lesion probability": rules.lesion_threshold},
            criterion="best Dice, mean over cases",
            data=VALIDATION,
        ),
    )
