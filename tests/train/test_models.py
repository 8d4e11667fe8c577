from pathlib import Path

import pytest
import torch

from groundglass.errors import GroundglassError
from groundglass.train.models import GreyConv2d, build_model
from groundglass.train.recipe import Model

SMALL = Model(name="small-cnn", filters=(4, 6), dropout=0.2)
DENSE = Model(name="small-cnn", filters=(4, 6), hidden=5, dropout=0.2)
TIMM = Model(name="timm/mobilenetv3_small_050", weights="none")


@pytest.mark.parametrize("spec", [SMALL, DENSE, TIMM], ids=["pooled", "dense", "timm"])
def test_evidence_is_gradient_times_feature(spec: Model) -> None:
    """HiResCAM computed in the forward direction equals the one by automatic differentiation."""
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
        (Model(name="large-cnn"), (64, 64), "small-cnn and timm/NAME"),
        (Model(name="timm/no_such_net"), (64, 64), "timm has no such model"),
        (Model(name="small-cnn", filters=(4,) * 6), (32, 32), "cannot take an input"),
        (Model(name="timm/vit_tiny_patch16_224"), (224, 224), "no feature map"),
        (Model(name="timm/resnet18", weights="gone.safetensors"), (64, 64), "no such file"),
    ],
    ids=["name", "timm name", "input too small", "no feature map", "weights"],
)
def test_models_that_cannot_be_built_say_why(spec: Model, size: tuple[int, int], hint: str) -> None:
    with pytest.raises(GroundglassError, match=hint):
        build_model(spec, 3, size)


def test_weights_are_looked_for_in_the_folder_then_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    spec = Model(name="timm/mobilenetv3_small_050", weights="imagenet")
    source = build_model(TIMM, 3, (64, 64)).backbone
    monkeypatch.setenv("GROUNDGLASS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GroundglassError, match=r"could not be downloaded.*GROUNDGLASS_WEIGHTS"):
        build_model(spec, 3, (64, 64))
    save_file(source.state_dict(), tmp_path / "mobilenetv3_small_050.test.safetensors")
    loaded = build_model(spec, 3, (64, 64)).backbone
    torch.testing.assert_close(
        loaded.state_dict()["conv_stem.weight"], source.state_dict()["conv_stem.weight"]
    )


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
