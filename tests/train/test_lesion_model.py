import numpy as np
import pytest
import torch
from torch import nn

from groundglass.bundle.engine import Engine
from groundglass.errors import GroundglassError
from groundglass.phantom import Phantom
from groundglass.preprocess import Preprocessing
from groundglass.recipe.tasks import GroundedModel
from groundglass.scan.scan import Scan
from groundglass.segment.segmenter import SegmenterBundle
from groundglass.train.lesion_model import Grounded, grounded_network
from groundglass.train.tasks.lesions import fit_head


@pytest.fixture(scope="module")
def network() -> Grounded:
    return grounded_network(GroundedModel(), 3)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand((2, 3, 64, 96), generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_it_starts_from_the_segmenter_as_it_was_exported(network: Grounded, covid_phantom: Phantom) -> None:
    preprocessing = Preprocessing(size=(128, 128))
    shape = (3, 128, 128)
    images = preprocessing(Scan(covid_phantom.scan.pixels[10], is_hu=True, scan_id="x"))[None]
    outputs = np.stack([masks for (masks,) in Engine(SegmenterBundle.load().graph, shape).run(images)])
    lungs, lesions = outputs[0, 0], outputs[0, 1:].sum(axis=0)
    with torch.no_grad():
        found = [one[0].numpy() for one in network.marked(torch.from_numpy(images))[:2]]
    blocks = [one.reshape(16, 8, 16, 8).mean(axis=(1, 3)) for one in (lungs, lesions)]
    np.testing.assert_allclose(found[0], blocks[0], atol=2e-3)
    np.testing.assert_allclose(found[1], blocks[0] * blocks[1], atol=2e-3)
    assert found[0].max() > 0.9


def test_the_evidence_adds_up_to_the_logit_which_is_linear_in_the_summary(
    network: Grounded, images: torch.Tensor
) -> None:
    with torch.no_grad():
        summary = network.summary(images).numpy()
        weights = np.random.default_rng(0).normal(size=summary.shape[1])
        network.set_head(weights, 0.7)
        logits, evidence = network(images)
    torch.testing.assert_close(network.bias + evidence.sum(dim=(1, 2)), logits)
    np.testing.assert_allclose(logits.numpy(), summary @ weights + 0.7, rtol=1e-3, atol=1e-3)
    assert evidence.shape == (2, 8, 12)


class _Marking(Grounded):
    """A network with given lesions, whose features are all 1."""

    def __init__(self, lesions: torch.Tensor) -> None:
        nn.Module.__init__(self)
        self.judge = nn.Conv2d(4, 1, 1)
        self.presence, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))
        self.lesions = lesions
        self.requires_grad_(False)

    def marked(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.ones_like(self.lesions), self.lesions, torch.ones(1, 4, *self.lesions.shape[1:])


def logit(share: float, judgement: float) -> float:
    lesions = torch.zeros(1, 8, 100)
    lesions[..., : round(100 * share)] = 1
    marking = _Marking(lesions)
    marking.set_head(np.array([judgement, 0, 0, 0, 0, 1]), 0.0)
    return float(marking(torch.zeros(1, 3, 64, 800))[0])


def test_without_a_lesion_no_judgement_reaches_the_answer() -> None:
    assert logit(0, 100) == logit(0, -100) == 0


def test_more_lesion_counts_and_looks_count_alike_from_some_area_on() -> None:
    assert logit(0.5, 0) > logit(0.25, 0) > logit(0.01, 0) > 0
    assert logit(0.5, 1) - logit(0.5, 0) == pytest.approx(1, abs=0.01)
    assert logit(0.01, 1) - logit(0.01, 0) == pytest.approx(0.77, abs=0.01)


def test_the_head_learns_what_lesions_look_like_whatever_the_size_of_classes_and_sources() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(600) < 60
    area = np.where(random.random(600) < 0.2, 0, 0.8)
    looks = (random.normal(size=(600, 5)) + np.outer(truth, [1.5, 0, 0, 0, 0])) * area[:, None]
    summary = np.column_stack([looks, area, 6 * area]).astype(np.float32)
    weights = np.where(truth, 5, 5 / 9)
    head, intercept = fit_head(summary, truth, weights, strength=1.0)
    logits = summary @ head + intercept
    seen = area > 0
    assert head[0] > 3 * np.abs(head[1:5]).max()
    assert ((logits > 0) == truth)[seen & truth].mean() > 0.7
    assert ((logits > 0) == truth)[seen & ~truth].mean() > 0.7


def test_a_segmenter_for_other_channels_is_refused() -> None:
    with pytest.raises(GroundglassError, match="takes 3 channels"):
        grounded_network(GroundedModel(), 1)
