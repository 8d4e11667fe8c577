"""The ONNX graph of a network and a scikit-learn classifier of its features."""

import warnings

import onnx
import torch
from onnx import ModelProto, compose, helper, parser
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from torch import Tensor, nn

from groundglass.train.classifiers import CLASSIFIER, Tuned
from groundglass.train.export import OPSET, onnx_graph
from groundglass.train.models import feature_shape

OPSETS = {"": OPSET, "ai.onnx.ml": 3}
"""Operator sets: the network's, and a version of the classical ones that every onnxruntime in use supports."""
PREFIX = "classifier/"


class _Places(nn.Module):
    """The mean features of each slice: over all locations of the feature map, then without each location in turn.

    The vectors of all slices are stacked, shape (batch * (1 + places), features), or (batch, features) if
    there is only one location.
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


def vectors_graph(backbone: nn.Module, shape: tuple[int, int, int]) -> bytes:
    """The ONNX graph from ``images`` to ``vectors``, the mean features that :class:`_Places` gives.

    Parameters
    ----------
    backbone
        Maps images to a feature map (batch, features, rows, columns).
    shape
        Channels, height and width of the images.
    """
    _, rows, columns = feature_shape(backbone, shape)
    return onnx_graph(_Places(backbone, rows * columns), shape, ["vectors"])


def features_graph(network: bytes, tuned: Tuned, map_shape: tuple[int, int, int]) -> bytes:
    """The ONNX graph of a network and a classifier of its mean features, for any batch size.

    The evidence of a location is the logit minus the logit without that location's features: occlusion
    (Zeiler and Fergus 2014, arXiv 1311.2901) of the feature map instead of the slice, which also works for
    classifiers without a gradient. For a feature map with a single location it is the logit.

    Parameters
    ----------
    network
        The graph of :func:`vectors_graph`.
    tuned
        The classifier.
    map_shape
        Features, rows and columns of the feature map.

    Returns
    -------
    The graph from ``images`` to ``logits`` and ``evidence``. It uses operators of ``ai.onnx.ml``.
    """
    features, rows, columns = map_shape
    vectors = onnx.load_from_string(network)
    classifier = _converted(tuned, features, vectors.ir_version)
    answers = parser.parse_model(_answers(tuned, rows, columns, vectors.ir_version))
    whole = compose.merge_models(vectors, classifier, [("vectors", PREFIX + "features")])
    scores = classifier.graph.output[1].name
    whole = compose.merge_models(whole, answers, [(scores, "scores")], outputs=["logits", "evidence"])
    _state_opsets_once(whole)
    onnx.checker.check_model(whole)
    return whole.SerializeToString()


def _converted(tuned: Tuned, features: int, ir_version: int) -> ModelProto:
    """The classifier from ``features`` to a label and two scores, for controls and COVID-19."""
    options = {"zipmap": False, **({"raw_scores": True} if tuned.decides else {})}
    with warnings.catch_warnings():
        # skl2onnx reads an SVM's parameters of Platt's probabilities, which scikit-learn deprecates.
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
    """The computation of logits and evidence from the scores of all vectors, in ONNX's text format."""
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
    """List each operator set once: skl2onnx and merge_models repeat them."""
    versions = {opset.domain: opset.version for opset in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
