from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from test_classes import NAMES, class_table, random_classes
from test_figures import check, texts

from groundglass.bundle.evaluation import format_estimate
from groundglass.errors import GroundglassError
from groundglass.evaluation.classes import evaluate_classes
from groundglass.evaluation.figures import class_confusion, class_roc, to_png
from groundglass.labels import NOT_A_CHEST_CT, UNCERTAIN


@pytest.mark.parametrize("draw", [class_roc, class_confusion])
def test_each_figure_names_the_count_in_letters_that_can_be_read(draw):
    frame = random_classes(60, 20)
    figure = draw(frame, evaluate_classes(frame, resamples=20))
    assert ": 60 slices" in texts(figure)
    check(figure, 5)


def test_each_class_has_its_curve_and_area():
    frame = random_classes(120, 40)
    result = evaluate_classes(frame, resamples=20)
    (axes,) = class_roc(frame, result).axes
    curves = {str(line.get_label()).split("\n")[0]: line for line in axes.lines}
    assert list(curves) == [*NAMES, "chance"]
    for name in NAMES:
        x, y = curves[name].get_data()
        fpr, tpr, _ = roc_curve(frame["label"] == name, frame[f"probability_{name}"], drop_intermediate=False)
        assert x == pytest.approx(fpr)
        assert y == pytest.approx(tpr)
        area = format_estimate(result.per_class[name]["roc_auc"])
        assert curves[name].get_label() == f"{name}\nAUC {area}"
    assert len({line.get_color() for line in axes.lines}) == 5


def test_a_class_without_slices_has_neither_curve_nor_row():
    frame = random_classes(60, 20)
    frame = frame[frame["label"] != "viral pneumonia"]
    result = evaluate_classes(frame, resamples=20)
    assert "viral" not in texts(class_roc(frame, result))
    (axes,) = class_confusion(frame, result).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "covid",
        "normal",
        "mycoplasma\npneumonia",
    ]
    assert len(axes.get_xticklabels()) == 4


def test_one_class_has_a_confusion_matrix_and_no_curves():
    frame = class_table(["covid"] * 3, [[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]], ("covid", "normal"))
    result = evaluate_classes(frame, resamples=20)
    assert "1\n33%" in texts(class_confusion(frame, result))
    with pytest.raises(GroundglassError, match="one class only"):
        class_roc(frame, result)


def test_the_confusion_matrix_counts_answers_and_silence_by_label():
    shares = np.array([[0.8, 0.2], [0.8, 0.2], [0.1, 0.9], [0.7, 0.3]])
    frame = class_table(["covid", "covid", "normal", "covid"], shares, ("covid", "normal"))
    frame.loc[3, "verdict"] = NOT_A_CHEST_CT
    (axes,) = class_confusion(frame, evaluate_classes(frame, resamples=20)).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["covid", "normal", "not a chest\nCT"]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert [[cells[column, row] for column in range(3)] for row in range(2)] == [
        ["2\n67%", "0\n0%", "1\n33%"],
        ["0\n0%", "1\n100%", "0\n0%"],
    ]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("names", [NAMES, (*NAMES, "lung adenocarcinoma", "community-acquired pneumonia")])
def test_names_under_the_confusion_matrix_do_not_overlap(names, silent):
    frame = random_classes(200, 100, names=names)
    if silent:
        frame.loc[:1, "verdict"] = [UNCERTAIN, NOT_A_CHEST_CT]
    figure = class_confusion(frame, evaluate_classes(frame, resamples=5))
    to_png(figure)
    (axes,) = figure.axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) >= len(names)
        overlaps = [first for first, second in pairwise(boxes) if first.overlaps(second)]
        assert overlaps == []
        assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
