import numpy as np
import pytest
import torch
from torch import nn

from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing
from groundglass.recipe.tasks import FeatureModel
from groundglass.train.tasks.features import frozen_backbone, pooled

PREPROCESSING = Preprocessing(size=(64, 64), channels=3, mean=0.5, std=0.25)
TINY = FeatureModel(name="timm/test_efficientnet", weights="none")


def test_features_are_means_over_the_map_whatever_the_batch() -> None:
    grey8 = np.random.default_rng(0).integers(0, 256, (35, 16, 24), dtype=np.uint8)
    preprocessing = Preprocessing(size=(16, 24), channels=1, mean=0.5, std=0.25)
    backbone = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.ReLU()).train()
    features = pooled(backbone, grey8, preprocessing)
    assert (features.shape, features.dtype) == ((35, 5), np.float32)
    images = torch.from_numpy((grey8 / 255 - 0.5) / 0.25).float()
    for row in (0, 15, 16, 34):
        with torch.no_grad():
            wanted = backbone.eval()(images[row, None, None])[0].double().numpy().mean(axis=(1, 2))
        np.testing.assert_allclose(features[row], wanted, rtol=1e-5, atol=1e-6)


def test_drawn_weights_depend_on_the_seed_alone() -> None:
    grey8 = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    first, again, other = (
        pooled(frozen_backbone(TINY, PREPROCESSING, seed), grey8, PREPROCESSING) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "problem"), [("timm/nothing", "no such model"), ("timm/test_vit", "feature map|cannot take")]
)
def test_a_network_that_does_not_serve_is_named(name: str, problem: str) -> None:
    spec = FeatureModel(name=name, weights="none")
    with pytest.raises(GroundglassError, match=problem):
        frozen_backbone(spec, Preprocessing(size=(160, 160)), 0)
