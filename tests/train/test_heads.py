"""Heads: the evidence, computed in the forward pass, compared with automatic differentiation."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from groundglass.bundle.engine import Engine
from groundglass.recipe.recipe import CnnHead
from groundglass.train.models import Classifier, ConvolutionalHead, DenseHead, PoolHead, Shape
from groundglass.train.tasks.classify import classifier_graph

AnyHead = PoolHead | DenseHead | ConvolutionalHead
COVID = 2
OUTPUTS = {"one output": (1, 0), "four outputs": (4, COVID)}
SHAPE: Shape = (5, 6, 4)
WHOLE, CUT = (5, 12, 16), (5, 15, 14)
"""Feature maps after whose convolutions 4 x 6 and 5 x 5 places are left, of which pools of 2 leave none or some."""


def convolutional(shape: Shape, activation: str, pool: int) -> Callable[[int, int], AnyHead]:
    spec = CnnHead.model_validate({"filters": 7, "pool": pool, "activation": activation})
    return lambda outputs, covid: ConvolutionalHead(shape, spec, 6, 0.3, outputs, covid)


LINEAR: dict[str, Callable[[int, int], AnyHead]] = {
    "pool": lambda outputs, covid: PoolHead(SHAPE, 0.3, outputs, covid),
    "dense": lambda outputs, covid: DenseHead(SHAPE, 6, 0.3, outputs, covid),
}
CONVOLUTIONAL = {
    f"{activation}, {name}": (shape, convolutional(shape, activation, pool))
    for activation in ("none", "relu")
    for name, shape, pool in (("whole", WHOLE, 2), ("cut", CUT, 2), ("single", CUT, 1), ("one place", CUT, 5))
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def target(logits: Tensor) -> Tensor:
    """The quantity that the evidence explains: the logit of COVID-19, with several classes minus the mean of
    the others."""
    if logits.ndim == 1:
        return logits
    others = [column for column in range(logits.shape[1]) if column != COVID]
    return logits[:, COVID] - logits[:, others].mean(dim=1)


def grad_cam(head: ConvolutionalHead, features: Tensor) -> Tensor:
    """By automatic differentiation, on the output of the first convolution."""
    seen: list[Tensor] = []
    handle = head.between.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    logits = head(features)
    handle.remove()
    (gradient,) = torch.autograd.grad(target(logits).sum(), seen[0])
    return (gradient.mean(dim=(2, 3), keepdim=True) * seen[0]).sum(dim=1)


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS.keys())
@pytest.mark.parametrize("build", LINEAR.values(), ids=LINEAR.keys())
def test_evidence_is_gradient_times_feature(
    build: Callable[[int, int], AnyHead], outputs: tuple[int, int]
) -> None:
    """HiResCAM (Draelos and Carin 2020)."""
    head = build(*outputs).eval()
    features = torch.randn(3, *SHAPE, requires_grad=True)
    (gradient,) = torch.autograd.grad(target(head(features)).sum(), features)
    evidence = head.evidence(features)
    assert evidence.shape == (3, 6, 4)
    torch.testing.assert_close(evidence, (gradient * features).sum(dim=1))


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS.keys())
@pytest.mark.parametrize(("shape", "build"), CONVOLUTIONAL.values(), ids=CONVOLUTIONAL.keys())
def test_evidence_of_the_convolutional_head_is_grad_cam(
    shape: Shape, build: Callable[[int, int], AnyHead], outputs: tuple[int, int]
) -> None:
    head = build(*outputs).eval()
    assert isinstance(head, ConvolutionalHead)
    features = torch.randn(3, *shape)
    evidence = head.evidence(features)
    assert evidence.shape == (3, shape[1] // 2, shape[2] // 2)
    assert evidence.abs().max() > 0
    torch.testing.assert_close(evidence, grad_cam(head, features))


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_equal_places_are_counted_once(activation: str) -> None:
    """On an even feature map, as of black, max-pooling finds its maximum in many locations."""
    head = convolutional(CUT, activation, 2)(1, 0).eval()
    assert isinstance(head, ConvolutionalHead)
    features = torch.ones(2, *CUT)
    torch.testing.assert_close(head.evidence(features), grad_cam(head, features))


@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS.keys())
@pytest.mark.parametrize(
    ("shape", "build"),
    [*((SHAPE, build) for build in LINEAR.values()), *CONVOLUTIONAL.values()],
    ids=[*LINEAR, *CONVOLUTIONAL],
)
def test_the_graph_answers_as_the_head_does(
    shape: Shape, build: Callable[[int, int], AnyHead], outputs: tuple[int, int]
) -> None:
    model = Classifier(nn.Conv2d(1, shape[0], 1), build(*outputs)).eval()
    images = torch.randn(3, 1, *shape[1:])
    with torch.no_grad():
        logits, evidence = model.explain(images)
    assert logits.shape == ((3,) if outputs[0] == 1 else (3, 4))
    engine = Engine(classifier_graph(model, (1, *shape[1:])), (1, *shape[1:]))
    answers = list(engine.run(iter(images.numpy())))
    np.testing.assert_allclose([one[0] for one in answers], logits.numpy(), atol=1e-5)
    np.testing.assert_allclose([one[1] for one in answers], evidence.numpy(), atol=1e-5)


@pytest.mark.parametrize("build", LINEAR.values(), ids=LINEAR.keys())
def test_evidence_of_several_is_that_of_their_difference(build: Callable[[int, int], AnyHead]) -> None:
    """With two logits it is the evidence of one logit, that of COVID-19 minus the other."""
    two, one = build(2, 1).eval(), build(1, 0).eval()
    weights = two.state_dict()
    difference = {name: value[1:] - value[:1] for name, value in weights.items() if "linear" in name}
    one.load_state_dict(weights | difference)
    features = torch.randn(3, *SHAPE)
    torch.testing.assert_close(one(features), two(features) @ torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(two.evidence(features), one.evidence(features))


@pytest.mark.parametrize(("shape", "pool", "least"), [((5, 15, 16), 6, 16), ((5, 16, 5), 1, 6)])
def test_a_feature_map_that_is_too_small_is_refused(shape: Shape, pool: int, least: int) -> None:
    spec = CnnHead(filters=4, pool=pool)
    needed = f"{shape[1]} x {shape[2]} is too small for cnn_head, which needs {least} x {least} with"
    with pytest.raises(ValueError, match=needed):
        ConvolutionalHead(shape, spec, 6, 0.0)
    assert ConvolutionalHead((5, least, least), spec, 6, 0.0)(torch.zeros(1, 5, least, least)).shape == (1,)


def test_dropout_is_for_training_alone() -> None:
    build = convolutional(WHOLE, "none", 2)
    head, features = build(4, COVID), torch.randn(3, *WHOLE)
    assert not torch.equal(head(features), head(features))
    torch.testing.assert_close(head.eval()(features), head(features), rtol=0, atol=0)
