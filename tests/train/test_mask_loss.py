import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from groundglass.recipe.tasks import SegmentationLoss
from groundglass.train.losses import UNKNOWN, MaskLoss, lungs_and_lesions

Array = NDArray[np.float64]
SPEC = SegmentationLoss(lungs_bce=0.7, lesions_bce=1.3, lungs_dice=0.4, lesions_dice=2.0)


def made(seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (3, 2, 5, 7))
    return logits, (rng.random(logits.shape) < [[[0.4]], [[0.1]]]).astype(float)


def by_torch(spec: SegmentationLoss, logits: Array, masks: Array) -> float:
    return float(MaskLoss(spec).double()(torch.from_numpy(logits), torch.from_numpy(masks.astype(np.uint8))))


def by_hand(spec: SegmentationLoss, logits: Array, masks: Array) -> float:
    total = 0.0
    weights = ((spec.lungs_bce, spec.lungs_dice), (spec.lesions_bce, spec.lesions_dice))
    for structure, (bce, dice) in enumerate(weights):
        true, chance = masks[:, structure], 1 / (1 + np.exp(-logits[:, structure]))
        entropy = -(true * np.log(chance) + (1 - true) * np.log(1 - chance)).mean()
        soft = (2 * (chance * true).sum() + 1) / (chance.sum() + true.sum() + 1)
        total += bce * entropy + dice * (1 - soft)
    return float(total)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_is_computed_by_hand(seed: int) -> None:
    logits, masks = made(seed)
    assert by_torch(SPEC, logits, masks) == pytest.approx(by_hand(SPEC, logits, masks), rel=1e-6)


@pytest.mark.parametrize("part", ["lungs_bce", "lesions_bce", "lungs_dice", "lesions_dice"])
def test_each_weight_is_of_its_own_part(part: str) -> None:
    none = {"lungs_bce": 0.0, "lesions_bce": 0.0, "lungs_dice": 0.0, "lesions_dice": 0.0}
    logits, masks = made()
    alone = by_torch(SegmentationLoss(**{**none, part: 3.0}), logits, masks)
    assert alone == pytest.approx(by_hand(SegmentationLoss(**{**none, part: 3.0}), logits, masks), rel=1e-6)
    other = logits.copy()
    other[:, 1 if part.startswith("lungs") else 0] += 5
    assert by_torch(SegmentationLoss(**{**none, part: 3.0}), other, masks) == pytest.approx(alone)
    assert by_torch(SegmentationLoss(**none), logits, masks) == 0


def test_right_masks_cost_nothing_and_wrong_ones_much() -> None:
    _, masks = made()
    assert by_torch(SPEC, 60 * masks - 30, masks) == pytest.approx(0, abs=1e-6)
    assert by_torch(SPEC, 30 - 60 * masks, masks) > 50


def test_dice_is_of_the_batch_so_that_an_empty_slice_weighs_little() -> None:
    """A false pixel on a slice without lesions costs no more than one next to a lesion."""
    spec = SegmentationLoss(lungs_bce=0, lesions_bce=0, lungs_dice=0, lesions_dice=1)
    masks = np.zeros((2, 2, 8, 8))
    masks[0, 1, 2:6, 2:6] = 1
    costs = []
    for slice_ in (0, 1):
        logits = 60 * masks - 30
        logits[slice_, 1, 0, 0] = 30
        costs.append(by_torch(spec, logits, masks))
    assert costs[0] == pytest.approx(costs[1]) == pytest.approx(1 - 33 / 34)
    nothing = np.zeros((2, 2, 8, 8))
    assert by_torch(spec, nothing - 30, nothing) == pytest.approx(0, abs=1e-6)


def test_gradients_pull_towards_the_masks_even_where_logits_are_extreme() -> None:
    masks = torch.zeros(1, 2, 4, 4)
    masks[..., :2] = 1
    for size in (0.5, 80.0):
        logits = torch.where(masks > 0, -size, size).requires_grad_()
        loss = MaskLoss(SegmentationLoss())(logits, masks)
        loss.backward()
        assert torch.isfinite(loss)
        assert logits.grad is not None
        assert (logits.grad[masks > 0] < 0).all()
        assert (logits.grad[masks == 0] > 0).all()


def test_its_weights_are_not_part_of_a_checkpoint() -> None:
    assert MaskLoss(SPEC).state_dict() == {}


def test_what_nobody_marked_teaches_nothing() -> None:
    logits, masks = made()
    unmarked = masks.copy()
    unmarked[0, 0] += UNKNOWN
    unmarked[2] += UNKNOWN
    torch_logits = torch.from_numpy(logits).requires_grad_()
    MaskLoss(SPEC).double()(torch_logits, torch.from_numpy(unmarked)).backward()
    assert torch_logits.grad is not None
    known = np.ones((3, 2), bool)
    known[0, 0] = known[2] = False
    assert ((np.abs(torch_logits.grad.numpy()).sum(axis=(2, 3)) > 0) == known).all()
    rest = {
        name: by_hand(SPEC.model_copy(update=weights), logits[part], masks[part])
        for name, part, weights in (
            ("lungs", slice(1, 2), {"lesions_bce": 0.0, "lesions_dice": 0.0}),
            ("lesions", slice(0, 2), {"lungs_bce": 0.0, "lungs_dice": 0.0}),
        )
    }
    assert by_torch(SPEC, logits, unmarked) == pytest.approx(sum(rest.values()), rel=1e-6)
    assert by_torch(SPEC, logits, masks % 2 + UNKNOWN) == 0


def types_made(seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    lesions = rng.random((2, 5, 7)) < 0.4
    solid = lesions & (rng.random(lesions.shape) < 0.5)
    masks = np.stack([np.ones_like(lesions), lesions, solid], axis=1).astype(float)
    return rng.normal(0, 3, masks.shape), masks


def test_lesions_of_unknown_type_teach_the_sum_of_both_probabilities() -> None:
    logits, masks = types_made()
    shares = np.exp(np.stack([np.zeros_like(logits[:, 0]), logits[:, 1], logits[:, 2]]))
    either = (shares[1] + shares[2]) / shares.sum(axis=0)
    pair = lungs_and_lesions(torch.from_numpy(logits))
    np.testing.assert_allclose(torch.sigmoid(pair[:, 1]).numpy(), either, rtol=1e-9)
    masks[:, 2] += UNKNOWN
    assert by_torch(SPEC, logits, masks) == pytest.approx(by_hand(SPEC, pair.numpy(), masks[:, :2]), rel=1e-6)


def test_the_type_is_taught_within_lesions_whose_type_is_known() -> None:
    logits, masks = types_made()
    pair = lungs_and_lesions(torch.from_numpy(logits)).numpy()
    of_solid = 1 / (1 + np.exp(logits[:, 1] - logits[:, 2]))
    masks[1, 2] += UNKNOWN
    right = np.where(masks[0, 2] > 0, of_solid[0], 1 - of_solid[0])[masks[0, 1] > 0]
    expected = by_hand(SPEC, pair, masks[:, :2]) - 3 * np.log(right).mean()
    spec = SPEC.model_copy(update={"types": 3.0})
    assert by_torch(spec, logits, masks) == pytest.approx(expected, rel=1e-6)
