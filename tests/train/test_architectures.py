"""The published systems' networks, layer by layer, compared with counts computed by hand.

A convolution of k x k from a to b features has k k a b weights and b biases; without padding it takes k - 1 from
each side, and pooling divides, rounding down.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from groundglass.recipe.recipe import ClassificationRecipe, load_recipe
from groundglass.train.models import build_model

RECIPES = Path(__file__).parents[2] / "recipes"

HAND_COUNTS = {
    # 64 -> 62 -> 31 -> 29 -> 14 -> 12 -> 6
    "saopaulo-cnn": (
        [(32, 31, 31), (64, 14, 14), (64, 6, 6)],
        [3 * 3 * 3 * 32 + 32, 3 * 3 * 32 * 64 + 64, 3 * 3 * 64 * 64 + 64, 6 * 6 * 64 * 128 + 128, 128 + 1],
        351_489,
    ),
    # 150 -> 148 -> 74 -> 72 -> 36 -> 34 -> 17; the sum is the one that Keras' own example prints
    "dropout-cnn": (
        [(32, 74, 74), (32, 36, 36), (64, 17, 17)],
        [3 * 3 * 3 * 32 + 32, 3 * 3 * 32 * 32 + 32, 3 * 3 * 32 * 64 + 64, 17 * 17 * 64 * 64 + 64, 64 + 1],
        1_212_513,
    ),
    # 224 -> 223 -> 74 -> 73 -> 24
    "keras-cnn": (
        [(32, 74, 74), (64, 24, 24)],
        [2 * 2 * 3 * 32 + 32, 2 * 2 * 32 * 64 + 64, 24 * 24 * 64 * 128 + 128, 128 + 1],
        4_727_521,
    ),
}
HAND_COUNTS["dropout-cnn-plain"] = HAND_COUNTS["dropout-cnn"]


def recipe_of(name: str) -> ClassificationRecipe:
    recipe = load_recipe(RECIPES / f"{name}.yaml", ("model.weights=none",))
    assert isinstance(recipe, ClassificationRecipe)
    return recipe


def network_of(recipe: ClassificationRecipe) -> nn.Module:
    preprocessing = recipe.preprocessing
    return build_model(recipe.model, preprocessing.channels, preprocessing.size, recipe.data.several)


def count(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


@pytest.mark.parametrize("name", HAND_COUNTS)
def test_small_networks(name: str) -> None:
    shapes, counts, total = HAND_COUNTS[name]
    recipe = recipe_of(name)
    model = network_of(recipe).eval()
    images = torch.rand(1, recipe.preprocessing.channels, *recipe.preprocessing.size)
    pooled = []
    for layer in model.backbone:
        images = layer(images)
        if isinstance(layer, nn.MaxPool2d):
            pooled.append(tuple(images.shape[1:]))
    assert pooled == shapes
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert sorted(map(count, layers)) == sorted(counts)
    assert count(model) == total


def test_dropout_follows_every_hidden_layer() -> None:
    def rates(name: str) -> list[float]:
        return [layer.p for layer in network_of(recipe_of(name)).modules() if isinstance(layer, nn.Dropout)]

    assert rates("dropout-cnn") == [0.5] * 4
    assert rates("dropout-cnn-plain") == [0.0]
    several = network_of(recipe_of("dropout-cnn-classes"))
    assert several.head.linear.out_features == 4
    assert count(several) == 1_212_513 + 3 * 65


def test_vgg16_without_its_top() -> None:
    """Thirteen 3 x 3 convolutions, 14,714,688 weights and biases, then 2 x 2 x 512 -> 128 -> 1."""
    recipe = recipe_of("saopaulo-vgg16")
    model = network_of(recipe).eval()
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    by_hand = sum(9 * a * b + b for a, b in zip([3, *widths], widths, strict=False))
    assert count(model.backbone) == by_hand == 14_714_688
    assert model.backbone(torch.rand(1, 3, 64, 64)).shape == (1, 512, 2, 2)
    assert count(model.head) == 2 * 2 * 512 * 128 + 128 + 128 + 1


def test_efficientnet_with_the_head_of_two_convolutions() -> None:
    """At 512 x 512: 16 x 16 x 1280 -> 8 x 8 x 512 -> 6 x 6 x 512 -> 1 x 1 x 512 -> 512 -> 1.

    EfficientNet-B0 without its top has 4,007,548 trainable weights in Keras.
    """
    recipe = recipe_of("bcdunet-efficientnet")
    model = network_of(recipe).eval()
    assert count(model.backbone) == 4_007_548
    head = model.head
    features = torch.rand(1, 1280, 16, 16)
    assert head.first(features).shape == (1, 512, 8, 8)
    assert head.second(head.first(features)).shape == (1, 512, 6, 6)
    assert [count(layer) for layer in (head.first, head.second, head.dense, head.linear)] == [
        2 * 2 * 1280 * 512 + 512,
        3 * 3 * 512 * 512 + 512,
        512 * 512 + 512,
        512 + 1,
    ]
    assert [layer.p for layer in head.modules() if isinstance(layer, nn.Dropout)][-2:] == [0.4, 0.4]


def test_glorots_weights_are_kerass() -> None:
    """Uniform within sqrt(6 / (fan in + fan out)), biases 0."""
    torch.manual_seed(0)
    head = network_of(recipe_of("saopaulo-cnn")).head
    limit = (6 / (2304 + 128)) ** 0.5
    assert 0.99 * limit < head.dense.weight.abs().max() <= limit
    assert head.dense.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.01)
    assert not head.dense.bias.any()
