"""From a network and a classifier of its features to the one ONNX graph of a bundle."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
from numpy.typing import NDArray
from onnx import ModelProto, compose, helper, parser
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from torch import Tensor, nn

from groundglass.bundle.facts import Choice
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing
from groundglass.recipe.tasks import FeaturesRecipe
from groundglass.train.export import OPSET, TOLERANCE, finish_bundle, onnx_graph
from groundglass.train.features.classifiers import CLASSIFIER, Tuned, classifier_logits
from groundglass.train.features.features import pooled
from groundglass.train.loop import PartData
from groundglass.train.run import Run

OPSETS = {"": OPSET, "ai.onnx.ml": 3}
"""Versions of the operators: the network's own, and of the classical ones what every onnxruntime in use runs."""
PREFIX = "classifier/"


class _Places(nn.Module):
    """The mean features of each slice: over all places of the feature map, then without each place in turn.

    The vectors of all slices lie one below the other, shape (batch * (1 + places), features), or (batch,
    features) where there is one place alone.
    """

    def __init__(self, backbone: nn.Module, places: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.others = places - 1

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images).flatten(2)
        vectors = features.mean(dim=2, keepdim=True)
        if self.others:
            without = (features.sum(dim=2, keepdim=True) - features) / self.others
            vectors = torch.cat([vectors, without], dim=2)
        return vectors.transpose(1, 2).flatten(0, 1)


def export_features(
    run: Run,
    recipe: FeaturesRecipe,
    tuned: Tuned,
    backbone: nn.Module,
    manifest: pd.DataFrame,
    validation: PartData,
) -> Bundle:
    """Write the bundle of a run, and the run's predictions on its validation part.

    Raises
    ------
    GroundglassError
        If the graph's features differ from torch's by more than 5e-4 (relative beyond 1), or its logits from
        those of scikit-learn, as groundglass.train.export.finish_bundle says.
    """
    preprocessing = recipe.preprocessing
    shape = (preprocessing.channels, *preprocessing.size)
    network = _network(backbone, shape)
    difference, features = _features(network, backbone, validation, preprocessing)
    if difference > TOLERANCE:
        raise GroundglassError(
            f"{run.folder}: the exported network differs from torch by {difference:.2g} in a feature"
        )
    graph = _joined(network, tuned, _map_shape(backbone, shape))
    expected = classifier_logits(tuned, features)
    return finish_bundle(run, recipe, graph, expected, manifest, validation, _chosen(recipe, tuned))


def _features(
    network: bytes, backbone: nn.Module, part: PartData, preprocessing: Preprocessing
) -> tuple[float, NDArray[np.float32]]:
    """How far the network's graph is from torch, relative beyond 1, and its features of a part's slices.

    A vote of a tree or a neighbour turns on the last digit of a feature, so a logit of torch's features says
    nothing on the graph: what scikit-learn makes of the graph's own features does.
    """
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    inputs = (preprocessing.model_input(grey8[None]) for grey8 in part.grey)
    features = np.stack([session.run(None, {"images": one})[0][0] for one in inputs])
    wanted = pooled(backbone, part.grey, preprocessing)
    return float(np.max(np.abs(features - wanted) / np.maximum(1.0, np.abs(wanted)))), features


def _chosen(recipe: FeaturesRecipe, tuned: Tuned) -> tuple[Choice, ...]:
    others = ", ".join(name for name in recipe.classifiers if name != tuned.name)
    beside = f", compared with {others}" if others else ""
    return (
        Choice(
            what="classifier",
            values={"name": f"{tuned.name} ({tuned.described})", "ROC AUC": tuned.cv_auc},
            criterion=f"the best ROC AUC in {recipe.folds}-fold cross-validation by patient{beside}",
            data="the training part",
        ),
    )


def features_graph(backbone: nn.Module, tuned: Tuned, shape: tuple[int, int, int]) -> bytes:
    """The ONNX graph of a network and a classifier of its mean features, for any batch size.

    The evidence of a place is the logit less the logit without that place's features, occlusion (Zeiler and
    Fergus 2014, arXiv 1311.2901) of the feature map in place of the slice: it serves classifiers without a
    gradient too. Of a feature map with one place it is the logit.

    Parameters
    ----------
    backbone
        From images to a feature map (batch, features, rows, columns).
    tuned
        The classifier.
    shape
        Channels, height and width of the images.

    Returns
    -------
    From ``images`` to ``logits`` and ``evidence``. It holds operators of ``ai.onnx.ml``.
    """
    return _joined(_network(backbone, shape), tuned, _map_shape(backbone, shape))


def _joined(network_graph: bytes, tuned: Tuned, map_shape: tuple[int, int, int]) -> bytes:
    """The graph of :func:`features_graph`, from the network's and the shape of its feature map."""
    features, rows, columns = map_shape
    network = onnx.load_from_string(network_graph)
    classifier = _converted(tuned, features, network.ir_version)
    answers = parser.parse_model(_answers(tuned, rows, columns, network.ir_version))
    whole = compose.merge_models(network, classifier, [("vectors", PREFIX + "features")])
    scores = classifier.graph.output[1].name
    whole = compose.merge_models(whole, answers, [(scores, "scores")], outputs=["logits", "evidence"])
    _state_opsets_once(whole)
    onnx.checker.check_model(whole)
    return whole.SerializeToString()


def _network(backbone: nn.Module, shape: tuple[int, int, int]) -> bytes:
    """The graph from ``images`` to ``vectors``, the mean features that :class:`_Places` gives."""
    _, rows, columns = _map_shape(backbone, shape)
    return onnx_graph(_Places(backbone, rows * columns), shape, ["vectors"])


@torch.no_grad()
def _map_shape(backbone: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    features, rows, columns = backbone.eval()(torch.zeros(1, *shape)).shape[1:]
    return features, rows, columns


def _converted(tuned: Tuned, features: int, ir_version: int) -> ModelProto:
    """The classifier from ``features`` to a label and to two scores, of the other slices and of COVID-19."""
    options = {"zipmap": False, **({"raw_scores": True} if tuned.decides else {})}
    with warnings.catch_warnings():
        # skl2onnx asks an SVM for the parameters of Platt's probabilities, which scikit-learn gives up.
        warnings.simplefilter("ignore", FutureWarning)
        model = to_onnx(
            tuned.pipeline,
            initial_types=[("features", FloatTensorType([None, features]))],
            target_opset=OPSETS,
            options={id(tuned.pipeline[CLASSIFIER]): options},
        )
    model.ir_version = ir_version
    _state_opsets_once(model)
    return compose.add_prefix(model, PREFIX)


def _answers(tuned: Tuned, rows: int, columns: int, ir_version: int) -> str:
    """From the scores of all vectors to logits and evidence, in ONNX' own language."""
    places = rows * columns
    answers = (
        "others, answers = Split <axis = 1> (scores)"
        if tuned.decides
        else f"""
            least = Constant <value_float = {tuned.least_share}> ()
            most = Constant <value_float = {1 - tuned.least_share}> ()
            held = Clip(scores, least, most)
            logs = Log(held)
            others, covid = Split <axis = 1> (logs)
            answers = Sub(covid, others)
            """
    )
    evidence = (
        f"""
            sizes = Constant <value_ints = [1, {places}]> ()
            whole, without = Split <axis = 1> (table, sizes)
            differences = Sub(whole, without)
            """
        if places > 1
        else """
            whole = Identity(table)
            differences = Identity(table)
            """
    )
    return f"""
        <ir_version: {ir_version}, opset_import: ["" : {OPSET}]>
        answers (float[vectors, 2] scores) => (float[batch] logits, float[batch, {rows}, {columns}] evidence)
        {{
            {answers}
            row = Constant <value_ints = [-1, {1 + places if places > 1 else 1}]> ()
            table = Reshape(answers, row)
            {evidence}
            one = Constant <value_ints = [-1]> ()
            map = Constant <value_ints = [-1, {rows}, {columns}]> ()
            logits = Reshape(whole, one)
            evidence = Reshape(differences, map)
        }}
        """


def _state_opsets_once(model: ModelProto) -> None:
    """Name each operator set once: skl2onnx and merge_models repeat them."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
