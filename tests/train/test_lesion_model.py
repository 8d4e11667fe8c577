import math

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
from groundglass.train.lesion_model import Grounded, frozen_parameters, grounded_network


@pytest.fixture(scope="module")
def network() -> Grounded:
    torch.manual_seed(0)
    return grounded_network(GroundedModel(), 3).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand((2, 3, 64, 96), generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_it_starts_from_the_segmenter_as_it_was_exported(network: Grounded, covid_phantom: Phantom) -> None:
    preprocessing = Preprocessing(size=(128, 128))
    shape = (3, 128, 128)
    images = preprocessing(Scan(covid_phantom.scan.pixels[10], is_hu=True, scan_id="x"))[None]
    outputs = np.stack([masks for (masks,) in Engine(SegmenterBundle.load().graph, shape).run(images)])
    expected = np.stack([outputs[:, 0], outputs[:, 1:].sum(axis=1)], axis=1)
    with torch.no_grad():
        found = torch.sigmoid(network.marked(torch.from_numpy(images))).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert found[:, 0].max() > 0.9


def test_the_evidence_adds_up_to_the_logit(network: Grounded, images: torch.Tensor) -> None:
    nn.init.normal_(network.judge[-1].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        _, logits, evidence, features = network(images)
    torch.testing.assert_close(network.bias + evidence.sum(dim=(1, 2)), logits)
    assert evidence.shape == (2, 8, 12)
    assert features.shape == (2, 176)


class _Marking(Grounded):
    """A network with given masks and a constant score for each location."""

    def __init__(self, lesions: torch.Tensor, judgement: float) -> None:
        nn.Module.__init__(self)
        self.spec = GroundedModel()
        self.bias = nn.Parameter(torch.zeros(()))
        self.judge = nn.Sequential(nn.Conv2d(4, 1, 1))
        nn.init.zeros_(self.judge[0].weight)  # type: ignore[arg-type]
        nn.init.constant_(self.judge[0].bias, judgement)  # type: ignore[arg-type]
        self.lesions = lesions

    def _marked(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        lungs = torch.ones_like(self.lesions)
        masks = torch.logit(torch.stack([lungs, self.lesions], dim=1).clamp(1e-6, 1 - 1e-6))
        return masks, torch.zeros(len(masks), 4, masks.shape[2] // 8, masks.shape[3] // 8)


def logit(share: float, judgement: float) -> float:
    lesions = torch.zeros(1, 64, 64)
    lesions[:, : round(64 * share)] = 1
    with torch.no_grad():
        return float(_Marking(lesions, judgement)(torch.zeros(1, 3, 64, 64))[1])


def test_without_a_lesion_no_judgement_reaches_the_answer() -> None:
    assert logit(0, 100) == pytest.approx(logit(0, -100), abs=0.01)
    assert logit(0, 100) == pytest.approx(0, abs=0.01)


def test_more_lesion_counts_for_covid_and_looks_weigh_within_their_bound() -> None:
    assert logit(0.5, 0) > logit(0.25, 0) > logit(0, 0) + 3
    assert 7.5 < logit(0.5, 100) - logit(0.5, -100) < 8  # twice the bound of 4, less the spread


def test_emphasis_counts_more_the_further_from_the_open_share() -> None:
    plain, stressed = (_Marking(torch.zeros(1, 64, 64), 0.0) for _ in range(2))
    stressed.spec = GroundedModel(emphasis=2.0)
    stressed.emphasise()
    none, half = torch.zeros(1, 64, 64), torch.zeros(1, 64, 64)
    half[:, :32] = 1
    differences = []
    for lesions in (none, half):
        plain.lesions = stressed.lesions = lesions
        with torch.no_grad():
            both = [float(one(torch.zeros(1, 3, 64, 64))[1]) for one in (plain, stressed)]
        differences.append(both[1] - both[0])
    assert differences[0] == pytest.approx(-math.log1p(17), abs=0.01)
    assert differences[1] == pytest.approx(math.log1p(500) - math.log1p(17), abs=0.05)


def test_the_answer_does_not_move_the_lesions(network: Grounded, images: torch.Tensor) -> None:
    nn.init.normal_(network.judge[-1].weight)  # type: ignore[arg-type]
    network.zero_grad()
    network(images)[1].sum().backward()
    head = network.unet.segmentation_head[0]  # type: ignore[index]
    assert head.weight.grad is None  # type: ignore[union-attr]
    assert network.judge[0].weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(("frozen", "some"), [(0, False), (3, True)])
def test_the_first_stages_stay_frozen(frozen: int, some: bool) -> None:
    parameters = frozen_parameters(grounded_network(GroundedModel(frozen=frozen), 3, start=False))
    assert bool(parameters) == some


def test_a_segmenter_for_other_channels_is_refused() -> None:
    with pytest.raises(GroundglassError, match="takes 3 channels"):
        grounded_network(GroundedModel(), 1)
