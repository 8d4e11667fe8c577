from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from sklearn.metrics import auc, roc_auc_score, roc_curve

from groundglass.bundle.evaluation import format_estimate
from groundglass.evaluation.comparison import ENSEMBLE, System, compare, ensemble_of
from groundglass.evaluation.comparison_report import (
    agreement_figure,
    comparison_frame,
    home_and_elsewhere,
    intervals_figure,
    roc_compared,
)
from groundglass.evaluation.figures import to_png
from groundglass.labels import NEGATIVE, POSITIVE

NAMES = (
    "resnet18",
    "resnet50",
    "efficientnet_b0",
    "densenet121",
    "convnext_tiny",
    "vit_small_patch16_224",
    "radiomics with gradient boosting",
    "mobilenetv3_large_100",
)
ONCE = NAMES[6]


@pytest.fixture
def systems(random_table) -> list[System]:
    """Eight systems of three members, one of them with a single member."""
    slices = random_table(80, 30)
    generator = np.random.default_rng(0)

    def member(skill: float):
        logit = generator.normal(skill * np.where(slices["label"] == POSITIVE, 1, -1))
        probability = np.round(1 / (1 + np.exp(-logit)), 2)
        return slices.assign(
            probability=probability, verdict=np.where(probability >= 0.5, POSITIVE, NEGATIVE)
        )

    return [
        System(name, tuple(member(1.2 - 0.15 * place) for _ in range(count)), (0.5,) * count)
        for place, name in enumerate(NAMES)
        for count in [1 if name == ONCE else 3]
    ]


@pytest.fixture
def compared(systems):
    return compare(systems, resamples=50)


def check(figure: Figure) -> None:
    """The picture is not empty, and no text is too small or outside it."""
    picture = Image.open(BytesIO(to_png(figure, dpi=67)))
    assert picture.width == 402
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert [text.get_text() for text in shown if text.get_fontsize() < 10] == []
    drawn = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= 0


def test_roc_curves_of_eight_systems_and_their_ensemble(systems, compared):
    figure = roc_compared(systems, compared)
    (legend,) = figure.legends
    told = [text.get_text() for text in legend.get_texts()]
    assert told[:-1] == [f"{s.name}: {format_estimate(s.metrics['roc_auc'])}" for s in compared.standings]
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 10
    check(figure)


def test_a_roc_curve_is_the_vertical_average_over_the_members(systems, compared):
    (axes,) = roc_compared(systems, compared).axes
    lines = {str(line.get_label()).split(":")[0]: line.get_data() for line in axes.lines}
    members = {system.name: system.members for system in systems} | {ENSEMBLE: (ensemble_of(systems),)}
    for name in (NAMES[0], ONCE, ENSEMBLE):
        x, y = lines[name]
        truth = members[name][0]["label"] == POSITIVE
        aucs = [roc_auc_score(truth, member["probability"]) for member in members[name]]
        assert auc(x, y) == pytest.approx(np.mean(aucs), abs=0.002)
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    at = 0.3
    sensitivities = [
        np.interp(at, *roc_curve(truth, member["probability"], drop_intermediate=False)[:2])
        for member in members[NAMES[0]]
    ]
    x, y = lines[NAMES[0]]
    assert y[np.argmin(abs(x - at))] == pytest.approx(np.mean(sensitivities))


def test_agreement_is_written_into_its_cells(compared):
    figure = agreement_figure(compared)
    (axes,) = figure.axes
    written = {(text.get_position()): text.get_text() for text in axes.texts}
    names = list(compared.agreement.index)
    assert written[1, 0] == f"{compared.agreement.iloc[0, 1]:.0%}"
    assert written[0, 0] == f"{compared.agreement.iloc[0, 0]:.0%}"
    once = names.index(ONCE)
    assert written[once, once] == "-"
    labels = [text.get_text().replace("\n", " ") for text in axes.get_yticklabels()]
    assert labels == [f"{name} ({place + 1})" for place, name in enumerate(names)]
    check(figure)


def test_the_tables_own_figures_are_left_as_they_were(compared):
    before = compared.agreement.copy()
    agreement_figure(compared)
    assert before.equals(compared.agreement)


def test_intervals_are_drawn_next_to_the_members(compared):
    figure = intervals_figure(compared)
    (axes,) = figure.axes
    marks = {
        (round(float(line.get_ydata()[0]), 2), line.get_marker()): line.get_xdata()
        for line in axes.lines[:-1]
    }
    for row, standing in enumerate(compared.standings):
        estimate = standing.metrics["roc_auc"]
        assert marks[row, "s"].tolist() == [estimate.low, estimate.value, estimate.high]
        if standing.members > 1:
            assert tuple(marks[row + 0.25, "o"]) == standing.member_aucs
    assert len(marks) == 9 + 7
    assert axes.lines[-1].get_xdata() == [0.5, 0.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "mean, 95% interval",
        "one member",
        "chance, 0.5",
    ]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    check(figure)


def test_every_system_is_drawn_at_home_and_elsewhere(compared):
    home, away = (comparison_frame(compared).assign(dataset=name) for name in ("home", "away"))
    away = away.assign(part="all", roc_auc=away["roc_auc"] - 0.2, roc_auc_low=away["roc_auc_low"] - 0.2)[::-1]
    page = pd.concat([home.assign(part="test"), away])
    figure = home_and_elsewhere({"home": page, "other": page.replace({"dataset": {"home": "other"}})})
    assert len(figure.axes) == 2
    for axes, name in zip(figure.axes, ("home", "other"), strict=True):
        assert axes.get_title("left") == f"trained on {name}; external: away"
        assert [text.get_text().replace("\n", " ") for text in axes.get_yticklabels()] == list(home["system"])
        squares, circles = (container for container in axes.containers)
        for drawn, rows in ((squares, home), (circles, away)):
            line, _, (bars,) = drawn.lines
            assert line.get_xdata().tolist() == rows["roc_auc"].tolist()
            assert [home["system"].iloc[round(row)] for row in line.get_ydata()] == rows["system"].tolist()
            ends = np.array([segment[:, 0] for segment in bars.get_segments()])
            np.testing.assert_allclose(ends, rows[["roc_auc_low", "roc_auc_high"]])
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["test set of its own dataset", "elsewhere"]
    check(figure)


def test_a_lone_system_of_a_single_patient_can_be_drawn(table):
    frame = table([True, False, True], [0.9, 0.1, 0.4], patient=["p"] * 3)
    lone = [System("alone", (frame,), (0.5,))]
    comparison = compare(lone, resamples=20)
    assert len(roc_compared(lone, comparison).axes[0].lines) == 2
    page = comparison_frame(comparison).assign(dataset="home", part="test")
    page = pd.concat([page, *(page.assign(dataset=name, part="all") for name in ("one", "two"))])
    elsewhere = home_and_elsewhere({"home": page})
    assert len(elsewhere.legends[0].get_texts()) == 3
    for figure in (agreement_figure(comparison), intervals_figure(comparison), elsewhere):
        check(figure)
