import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import nn

from groundglass.bundle.engine import Engine
from groundglass.recipe.tasks import ClassifierName
from groundglass.train import classifiers
from groundglass.train.classifiers import Tuned, classifier_logits, tune
from groundglass.train.features_graph import features_graph, vectors_graph
from groundglass.train.models import feature_shape

SHAPE = (1, 9, 9)


def whole_graph(network: nn.Module, classifier: Tuned, shape: tuple[int, int, int]) -> bytes:
    return features_graph(vectors_graph(network, shape), classifier, feature_shape(network, shape))


NAMES = list(classifiers._KINDS)


def backbone(kernel: int = 3) -> nn.Module:
    """A network with integer features, so that its sums are exact in any order."""
    convolution = nn.Conv2d(1, 12, kernel, stride=2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        convolution.weight.copy_(torch.randint(-2, 3, convolution.weight.shape, generator=generator))
        convolution.bias.fill_(3)
    return nn.Sequential(convolution, nn.ReLU())


def pictures() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """64 pictures with integer values; with COVID-19 they have a brighter corner."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 4, (64, *SHAPE)).astype(np.float32)
    truth = np.arange(64) % 4 < 2
    images[truth, :, :4, :4] += rng.integers(0, 3, (32, 1, 4, 4))
    return images, truth


def feature_maps(network: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.no_grad():
        return network(torch.from_numpy(images)).flatten(2).numpy()


def tuned(name: ClassifierName, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Tuned:
    kind = classifiers._KINDS[name]
    quick = {key: values[len(values) // 2 :][:1] for key, values in kind.grid.items()}
    monkeypatch.setitem(classifiers._KINDS, name, dataclasses.replace(kind, grid=quick))
    images, truth = pictures()
    features = feature_maps(network, images).mean(axis=2)
    return tune(name, features, truth, np.arange(64) // 2, 2, seed=0)


def reference(classifier: Tuned, features: NDArray[np.float32]) -> NDArray[np.float64]:
    if classifier.name in ("knn", "forest"):
        share = classifier.pipeline.predict_proba(features)[:, 1]
        return logit(np.clip(share, 1 / 128, 127 / 128))
    return classifier.pipeline.decision_function(features)


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_answers_as_scikit_learn_does(
    name: ClassifierName, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = backbone()
    classifier = tuned(name, network, monkeypatch)
    graph = whole_graph(network, classifier, SHAPE)
    images, _ = pictures()
    answers = list(Engine(graph, SHAPE).run(images))
    maps = feature_maps(network, images)
    wanted = reference(classifier, maps.mean(axis=2))
    assert wanted.std() > 0.01
    np.testing.assert_allclose([float(one) for one, _ in answers], wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classifier_logits(classifier, maps.mean(axis=2)), wanted, rtol=1e-9)
    evidence = np.zeros((64, 16))
    for place in range(16):
        rest = np.delete(maps, place, axis=2)
        evidence[:, place] = wanted - reference(classifier, rest.sum(axis=2) / np.float32(15))
    assert np.abs(evidence).max() > 0.01
    found = np.stack([one for _, one in answers])
    assert found.shape == (64, 4, 4)
    np.testing.assert_allclose(found.reshape(64, 16), evidence, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_slices_runs_at_once(name: ClassifierName, monkeypatch: pytest.MonkeyPatch) -> None:
    network = backbone()
    graph = whole_graph(network, tuned(name, network, monkeypatch), SHAPE)
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    session = onnxruntime.InferenceSession(graph)
    assert [output.name for output in session.get_outputs()] == ["logits", "evidence"]
    assert [source.name for source in session.get_inputs()] == ["images"]
    images, _ = pictures()
    logits, evidence = session.run(None, {"images": images})
    assert (logits.shape, evidence.shape) == ((64,), (64, 4, 4))
    for count in (1, 5):
        few = session.run(None, {"images": images[:count]})
        np.testing.assert_allclose(few[0], logits[:count], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(few[1], evidence[:count], atol=1e-4)


@pytest.mark.parametrize("name", ["logistic", "forest"])
def test_the_evidence_of_a_single_place_is_the_logit(
    name: ClassifierName, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = backbone(kernel=9)
    classifier = tuned(name, network, monkeypatch)
    images, _ = pictures()
    wanted = reference(classifier, feature_maps(network, images)[:, :, 0])
    answers = list(Engine(whole_graph(network, classifier, SHAPE), SHAPE).run(images))
    np.testing.assert_allclose([float(one) for one, _ in answers], wanted, rtol=1e-4, atol=1e-4)
    for one, evidence in answers:
        assert evidence.shape == (1, 1)
        assert evidence[0, 0] == one


def test_the_brighter_corner_is_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    network = backbone()
    graph = whole_graph(network, tuned("logistic", network, monkeypatch), SHAPE)
    images, truth = pictures()
    evidence = np.stack([one for _, one in Engine(graph, SHAPE).run(images[truth])]).mean(axis=0)
    assert evidence[:2, :2].mean() > evidence[2:, 2:].mean()
