from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from groundglass.errors import GroundglassError
from groundglass.evaluation import figures
from groundglass.evaluation.figures import to_png
from groundglass.evaluation.metrics import evaluate
from groundglass.labels import NOT_A_CHEST_CT, UNCERTAIN

DRAWN = {
    "roc": figures.roc,
    "precision_recall": figures.precision_recall,
    "calibration": figures.calibration,
    "confusion_matrix": figures.confusion_matrix,
    "scores": figures.scores,
}


@pytest.fixture
def log() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3],
            "train_loss": [0.7, 0.5, 0.4, 0.3],
            "val_loss": [0.7, 0.5, 0.6, 0.8],
            "val_auc": [0.6, 0.8, 0.9, 0.85],
            "val_accuracy": [0.5, 0.7, 0.72, 0.71],
            "lr": [1e-3, 1e-3, 5e-4, 1e-4],
        }
    )


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def check(figure: Figure, height: float) -> None:
    picture = Image.open(BytesIO(to_png(figure, dpi=50)))
    assert picture.size == (300, round(50 * height))
    assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    small = [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_fontsize() < 10]
    assert small == []


@pytest.mark.parametrize("name", DRAWN)
def test_each_figure_names_the_positive_class_and_the_count(random_table, name):
    frame = random_table(60, 20)
    given = (0.5,) if name in ("roc", "precision_recall") else ()
    figure = DRAWN[name](frame, evaluate(frame, resamples=50), *given)
    positives = (frame["label"] == "covid").sum()
    assert f"{positives} covid of 60 slices" in texts(figure)
    check(figure, 5)


def test_the_roc_curve_shows_area_band_and_operating_point(table):
    truth = [True, True, False, False, False, False] * 5
    frame = table(truth, [0.9, 0.4, 0.6, 0.1, 0.1, 0.1] * 5)
    (axes,) = figures.roc(frame, evaluate(frame, resamples=50), 0.5).axes
    labels = axes.get_legend_handles_labels()[1]
    assert "95% band" in labels
    assert any(label.startswith("AUC 0.88 (") for label in labels)
    assert "all slices at threshold 0.50 (0.25, 0.50)" in labels
    curve = next(line for line in axes.lines if str(line.get_label()).startswith("AUC"))
    assert np.column_stack(curve.get_data()).tolist() == [[0, 0], [0, 0.5], [0.25, 0.5], [0.25, 1], [1, 1]]


def test_the_precision_recall_curve_encloses_the_average_precision(random_table):
    frame = random_table(60, 20)
    result = evaluate(frame, resamples=50)
    (axes,) = figures.precision_recall(frame, result, 0.5).axes
    recall, precision = axes.lines[0].get_data()
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(result.metrics["pr_auc"].value)


def test_one_group_has_a_curve_without_a_band(table):
    frame = table([True, False], [0.9, 0.1], patient=["a", "a"])
    (axes,) = figures.roc(frame, evaluate(frame), 0.5).axes
    assert axes.get_legend_handles_labels()[1][0] == "AUC 1.00"


def test_the_confusion_matrix_has_a_column_for_each_verdict_given(table):
    frame = table([True, True, False], [0.9, 0.2, 0.1])
    frame.loc[1, "verdict"] = NOT_A_CHEST_CT
    figure = figures.confusion_matrix(frame, evaluate(frame, resamples=20))
    written = texts(figure)
    assert "not a\nchest CT" in written
    assert "uncertain" not in written
    assert "1\n50%" in written


@pytest.mark.parametrize("name", ["roc", "precision_recall"])
def test_one_class_has_no_curve(table, name):
    frame = table([True, True], [0.9, 0.4])
    with pytest.raises(GroundglassError, match="one class only"):
        DRAWN[name](frame, evaluate(frame, resamples=20), 0.5)


@pytest.mark.parametrize("draw", [figures.roc, figures.precision_recall])
def test_the_operating_point_is_on_the_curve_if_slices_are_not_answered(random_table, draw):
    frame = random_table(60, 20)
    frame.loc[frame["probability"].between(0.3, 0.7), "verdict"] = UNCERTAIN
    (axes,) = draw(frame, evaluate(frame, resamples=20), 0.5).axes
    curve, point = (
        next(line for line in axes.lines if text in str(line.get_label())) for text in ("AUC", "threshold")
    )
    assert "all slices at threshold 0.50" in str(point.get_label())
    vertices = np.column_stack(curve.get_data())
    assert np.isclose(vertices, np.column_stack(point.get_data())).all(axis=1).any()


@pytest.mark.parametrize("name", ["calibration", "confusion_matrix", "scores"])
def test_one_class_has_the_other_figures(table, name):
    frame = table([True, True], [0.9, 0.4])
    check(DRAWN[name](frame, evaluate(frame, resamples=20)), 5)


def test_the_histogram_is_of_the_calibrated_probability(table):
    frame = table([True, True, False], [0.92, 0.94, 0.12])
    (axes,) = figures.scores(frame, evaluate(frame, resamples=20)).axes
    tops = [patch.get_xy()[patch.get_xy()[:, 1].argmax()] for patch in axes.patches]
    assert [(pytest.approx(x), y) for x, y in tops] == [(0.1, 1), (0.9, 2)]


def test_the_threshold_is_drawn_where_it_is_given(random_table):
    frame = random_table(60, 20)
    assert "threshold 0.42" in texts(figures.scores(frame, evaluate(frame, resamples=20), threshold=0.42))


@pytest.mark.parametrize(("best_by", "best"), [("val_auc", 2), ("val_loss", 1), ("val_accuracy", 2)])
def test_training_curves_mark_the_epoch_that_was_kept(log, best_by, best):
    figure = figures.curves(log, best_by)
    assert f"best epoch: {best}" in texts(figure)
    check(figure, 6)


def test_training_and_validation_may_be_in_separate_rows(log):
    validation = ["val_loss", "val_auc", "val_accuracy"]
    apart = pd.concat([log.drop(columns=validation), log[["epoch", *validation]]])
    (line,) = (line for line in figures.curves(apart).axes[0].lines if line.get_label() == "validation loss")
    assert line.get_ydata().tolist() == [0.7, 0.5, 0.6, 0.8]


def test_models_are_compared_by_name_up_to_many(log):
    logs = {f"model {number}": log.head(4 - number % 3) for number in range(9)}
    figure = figures.curves_compared(logs, dict.fromkeys(logs, "val_auc"))
    written = texts(figure)
    assert all(f"model {number}" in written for number in range(9))
    looks = {
        (line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines if len(line.get_xdata()) > 1
    }
    assert len(looks) == 9
    check(figure, 8)


def test_a_run_without_validation_values_has_curves_and_no_best_epoch(log):
    assert "best epoch" not in texts(figures.curves(log.assign(val_auc=np.nan)))


def test_logs_that_do_not_fit_are_refused(log):
    with pytest.raises(GroundglassError, match="no column lr"):
        figures.curves(log.drop(columns=["val_auc", "lr"]))
    with pytest.raises(GroundglassError, match="resnet: the training log has no column lr"):
        figures.curves_compared({"resnet": log.drop(columns="lr")}, {"resnet": "val_auc"})
    with pytest.raises(GroundglassError, match="no training log"):
        figures.curves_compared({}, {})
