import pandas as pd
import pytest
from pydantic import ValidationError

from groundglass.data.splits import LeakageWarning
from groundglass.errors import GroundglassError
from groundglass.labels import POSITIVE
from groundglass.recipe.divide import divide
from groundglass.recipe.parts import Data

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")

LABELS = {"covid": 20, "normal": 16, "pneumonia": 12}


@pytest.fixture
def manifest() -> pd.DataFrame:
    rows = [(f"/slices/{label}/{n}.png", label) for label, count in LABELS.items() for n in range(count)]
    return pd.DataFrame(rows, columns=["path", "label"]).assign(patient="", split="", source="made up")


def grouped(**values: object) -> Data:
    return Data.model_validate({"dataset": "any", "split": "grouped", **values})


def counts(manifest: pd.DataFrame) -> dict[str, int]:
    return manifest["label"].value_counts().to_dict()


def parts(manifest: pd.DataFrame) -> dict[str, str]:
    return dict(zip(manifest["path"], manifest["split"], strict=True))


def test_without_classes_all_scans_take_part(manifest: pd.DataFrame) -> None:
    divided = divide(manifest, grouped(), 0)
    assert counts(divided) == LABELS
    assert set(divided["split"]) == {"train", "val", "test"}
    assert set(manifest["split"]) == {""}


def test_scans_of_other_classes_are_left_out(manifest: pd.DataFrame) -> None:
    divided = divide(manifest, grouped(classes=("pneumonia", "covid")), 0)
    assert counts(divided) == {"covid": 20, "pneumonia": 12}
    assert divided.index.tolist() == list(range(32))


def test_a_class_without_scans_is_named_with_those_that_there_are(manifest: pd.DataFrame) -> None:
    with pytest.raises(GroundglassError, match=r"labelled healthy; .* are covid, normal, pneumonia$"):
        divide(manifest, grouped(classes=("covid", "normal", "healthy")), 0)


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_order(manifest: pd.DataFrame) -> None:
    data = grouped(per_class=6)
    first, other = divide(manifest, data, 1), divide(manifest, data, 2)
    shuffled = divide(manifest.sample(frac=1, random_state=0), data, 1)
    assert parts(shuffled) == parts(first)
    assert set(parts(other)) != set(parts(first))
    for divided in (first, other):
        assert divided["path"].is_unique
        assert (divided["label"] == POSITIVE).value_counts().to_dict() == {True: 6, False: 6}


def test_of_several_classes_each_is_drawn_from(manifest: pd.DataFrame) -> None:
    several = divide(manifest, grouped(per_class=12, classes=tuple(LABELS)), 0)
    assert counts(several) == dict.fromkeys(LABELS, 12)
    others = divide(manifest, grouped(per_class=20), 0)
    assert counts(others)["covid"] == counts(others)["normal"] + counts(others)["pneumonia"] == 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"per_class": 13, "classes": tuple(LABELS)},
            "data.per_class 13: there are only 12 scans of pneumonia",
        ),
        ({"per_class": 21}, "data.per_class 21: there are only 20 scans of covid"),
        ({"per_class": 29}, "there are only 20 scans of covid"),
        ({"per_class": 13, "classes": ("covid", "pneumonia")}, "only 12 scans of not covid"),
    ],
    ids=["several", "covid", "both", "two"],
)
def test_too_few_scans_to_draw_from_are_counted(
    manifest: pd.DataFrame, values: dict[str, object], message: str
) -> None:
    with pytest.raises(GroundglassError, match=message):
        divide(manifest, grouped(**values), 0)


def test_the_seed_of_the_data_overrides_that_of_the_recipe(manifest: pd.DataFrame) -> None:
    for extra in ({}, {"per_class": 8, "classes": tuple(LABELS)}, {"split": "random"}):
        own = grouped(seed=7, **extra)
        assert parts(divide(manifest, own, 1)) == parts(divide(manifest, own, 2))
        without = grouped(**extra)
        assert parts(divide(manifest, without, 7)) == parts(divide(manifest, own, 1))
        assert parts(divide(manifest, without, 1)) != parts(divide(manifest, without, 2))


def test_a_seed_of_zero_is_a_seed(manifest: pd.DataFrame) -> None:
    assert parts(divide(manifest, grouped(seed=0), 5)) == parts(divide(manifest, grouped(), 0))


def test_a_random_split_warns(manifest: pd.DataFrame) -> None:
    with pytest.warns(LeakageWarning, match="a random split"):
        divide(manifest, grouped(split="random"), 0)


@pytest.mark.parametrize("classes", [("normal", "pneumonia"), ("covid", "normal", "covid"), ("covid",)])
def test_classes_name_covid_and_each_once(classes: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match=r"classes\n.*(each class once, and covid among|at least 2)"):
        grouped(classes=classes)


def test_two_classes_are_a_yes_or_no() -> None:
    assert grouped().several == ()
    assert grouped(classes=("normal", "covid")).several == ()
    assert grouped(classes=("normal", "covid", "pneumonia")).several == ("normal", "covid", "pneumonia")
