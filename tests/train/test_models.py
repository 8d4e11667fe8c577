from pathlib import Path

import pytest
import torch

from groundglass.commands.train import finish_training, train
from groundglass.errors import GroundglassError
from groundglass.recipe.recipe import ClassificationRecipe, CnnHead, Model, load_recipe
from groundglass.train.models import (
    ConvolutionalHead,
    DenseHead,
    GreyConv2d,
    PoolHead,
    build_model,
    timm_backbone,
    with_substitute,
)
from groundglass.train.module import DepthwiseInFloat32

SMALL = Model(name="small-cnn", filters=(4, 6), dropout=0.2)
DENSE = Model(name="small-cnn", filters=(4, 6), hidden=5, dropout=0.2)
TIMM = Model(name="timm/mobilenetv3_small_050", weights="none")


@pytest.mark.parametrize("spec", [SMALL, DENSE, TIMM], ids=["pooled", "dense", "timm"])
def test_evidence_is_gradient_times_feature(spec: Model) -> None:
    """HiResCAM computed in the forward pass equals that by automatic differentiation."""
    torch.manual_seed(0)
    model = build_model(spec, 1, (64, 64)).eval()
    images = torch.rand(3, 1, 64, 64)
    features = model.backbone(images).detach().requires_grad_()
    model.head(features).sum().backward()
    expected = (features.grad * features).sum(dim=1)
    logits, evidence = model.explain(images)
    torch.testing.assert_close(evidence, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, model(images))


def test_pooled_evidence_and_bias_sum_up_to_the_logit() -> None:
    model = build_model(SMALL, 1, (32, 32)).eval()
    logits, evidence = model.explain(torch.rand(2, 1, 32, 32))
    torch.testing.assert_close(evidence.sum(dim=(1, 2)) + model.head.linear.bias, logits)


@pytest.mark.parametrize(
    ("spec", "size", "hint"),
    [
        (Model(name="large-cnn"), (64, 64), "choose small-cnn or timm/NAME"),
        (Model(name="timm/no_such_net"), (64, 64), "timm has no such model"),
        (Model(name="small-cnn", filters=(4,) * 6), (32, 32), "cannot take an input"),
        (Model(name="timm/vit_tiny_patch16_224"), (224, 224), "no feature map"),
        (Model(name="timm/resnet18", weights="gone.safetensors"), (64, 64), "no such file"),
        (
            Model(name="small-cnn", filters=(4,), hidden=5, cnn_head=CnnHead(pool=6)),
            (32, 24),
            "model.name small-cnn: the feature map of 15 x 11 is too small for cnn_head",
        ),
    ],
    ids=["name", "timm name", "input too small", "no feature map", "weights", "map too small"],
)
def test_models_that_cannot_be_built_say_why(spec: Model, size: tuple[int, int], hint: str) -> None:
    with pytest.raises(GroundglassError, match=hint):
        build_model(spec, 3, size)


@pytest.mark.parametrize(
    ("spec", "head"),
    [
        (SMALL, PoolHead),
        (DENSE, DenseHead),
        (DENSE.model_copy(update={"cnn_head": CnnHead(filters=4, pool=1)}), ConvolutionalHead),
    ],
    ids=["pooled", "dense", "convolutional"],
)
def test_several_classes_get_a_logit_each(spec: Model, head: type[torch.nn.Module]) -> None:
    images = torch.rand(3, 1, 64, 64)
    assert build_model(spec, 1, (64, 64)).eval()(images).shape == (3,)
    several = build_model(spec, 1, (64, 64), ("normal", "covid", "viral pneumonia")).eval()
    assert isinstance(several.head, head)
    assert several(images).shape == (3, 3)
    assert several.head.contrast.tolist() == [-0.5, 1, -0.5]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_weights_are_looked_for_in_the_folder_then_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    spec = Model(name="timm/mobilenetv3_small_050", weights="imagenet")
    source = build_model(TIMM, 3, (64, 64)).backbone
    monkeypatch.setenv("GROUNDGLASS_WEIGHTS", str(tmp_path))
    with pytest.raises(GroundglassError, match=r"could not be downloaded.*GROUNDGLASS_WEIGHTS"):
        build_model(spec, 3, (64, 64))
    save_file(source.state_dict(), tmp_path / "mobilenetv3_small_050.test.safetensors")
    loaded = build_model(spec, 3, (64, 64)).backbone
    torch.testing.assert_close(
        loaded.state_dict()["conv_stem.weight"], source.state_dict()["conv_stem.weight"]
    )


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None) -> Path:
    """A folder with weights for test_efficientnet; no others are available."""
    from safetensors.torch import save_file

    folder = tmp_path / "weights"
    folder.mkdir()
    backbone = timm_backbone("test_efficientnet", "none", 3)
    save_file(backbone.state_dict(), folder / "test_efficientnet.test.safetensors")
    monkeypatch.setenv("GROUNDGLASS_WEIGHTS", str(folder))
    return folder


def test_a_substitute_is_used_if_weights_are_not_available(weights_folder: Path) -> None:
    wanted, other = "timm/test_resnet", "timm/resnet18"
    assert with_substitute(wanted, "imagenet", other) == other
    assert with_substitute(wanted, "imagenet", None) == wanted
    assert with_substitute(wanted, "none", other) == wanted
    assert with_substitute(wanted, str(weights_folder / "gone.safetensors"), other) == wanted
    assert with_substitute("timm/test_efficientnet", "imagenet", other) == "timm/test_efficientnet"
    file = weights_folder / "test_efficientnet.test.safetensors"
    assert with_substitute("timm/test_efficientnet", str(file), other) == "timm/test_efficientnet"


@pytest.mark.usefixtures("weights_folder")
@pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
def test_a_run_reports_its_substitute_and_its_recipe_has_that_name(recipe_file: Path, tmp_path: Path) -> None:
    model = "{name: timm/test_resnet, weights: imagenet, substitute: timm/test_efficientnet}"
    overrides = (f"model={model}", "preprocessing.channels=3", "training.epochs=1")
    told: list[str] = []
    run = train(recipe_file, overrides, tmp_path / "run", tell=told.append)
    assert told[0] == (
        "timm/test_resnet: its weights are not available here; using the recipe's substitute "
        "timm/test_efficientnet"
    )
    trained = run.recipe()
    assert isinstance(trained, ClassificationRecipe)
    assert (trained.model.name, trained.model.substitute) == ("timm/test_efficientnet", None)
    assert run.facts()["stands_in_for"] == "timm/test_resnet"
    card = (run.bundle_folder / "MODEL_CARD.md").read_text()
    assert (
        "Backbone: name timm/test_efficientnet; in place of timm/test_resnet, whose weights are not" in card
    )
    assert not finish_training(load_recipe(recipe_file, overrides), run)


def test_a_convolution_over_equal_channels_is_a_convolution() -> None:
    torch.manual_seed(0)
    plain, folded = torch.nn.Conv2d(3, 5, 2), GreyConv2d(3, 5, 2)
    folded.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 16, 16).expand(-1, 3, -1, -1)
    outputs = [layer(images) for layer in (plain, folded)]
    torch.testing.assert_close(outputs[0], outputs[1])
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(plain.weight.grad, folded.weight.grad)


def test_mixed_precision_leaves_depthwise_convolutions_in_32_bits() -> None:
    depthwise, pointwise = torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 4, 1)
    images = torch.rand(2, 8, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16), DepthwiseInFloat32():
        filtered = depthwise(images.bfloat16())
        mixed = pointwise(filtered)
    assert (filtered.dtype, mixed.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(filtered, depthwise(images.bfloat16().float()))
