"""A model without a bundle: reading of its ONNX file and description, and the messages for mistakes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike, NDArray

from groundglass.bundle.store import kind_of_bundle
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.detect.own_model import Description
from groundglass.errors import BundleError
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan

GREY = Preprocessing(size=(32, 32), channels=1, mean=0.0, std=1.0)
CHANNELS = """
<ir_version: 8, opset_import: ["" : 17]>
own (float[{batch}, 3, 32, 32] slices) => (float[{batch}, 3] means)
{{
  means3 = GlobalAveragePool(slices)
  means = Flatten(means3)
}}
"""
"""The mean of each channel."""
LAST = """
<ir_version: 8, opset_import: ["" : 17]>
own (float[batch, 32, 32, 3] slices) => (float[batch, 3] means)
<int64[2] places = {1, 2}>
{
  means = ReduceMean<axes = [1, 2], keepdims = 0>(slices)
}
"""
TWO = """
<ir_version: 8, opset_import: ["" : 17]>
own (float[batch, 1, 32, 32] slices) => (float[batch, 1, 32, 32] map, float[batch, 1, 1, 1] mean)
{
  map = Identity(slices)
  mean = GlobalAveragePool(slices)
}
"""
THREE_CLASSES = "gives: logits\nclasses: [normal, COVID-19, cancer]\n"
THREE_CHANNELS = "preprocessing: {size: [32, 32], mean: 0, std: 1}\n"
ONE_CHANNEL = "preprocessing: {size: [32, 32], channels: 1, mean: 0, std: 1}\n"


def write(folder: Path, graph: str, description: str | None) -> Path:
    path = folder / "mine.onnx"
    path.write_bytes(onnx.parser.parse_model(graph).SerializeToString())
    if description is not None:
        path.with_suffix(".yaml").write_text(description)
    return path


def grey(value: float) -> Scan:
    return Scan(np.full((32, 32), value, dtype=np.float32), is_hu=False, scan_id="flat")


def test_an_onnx_file_with_several_classes_answers(tmp_path: Path) -> None:
    scales = "channel_mean: [0.5, 0.25, 0]\nchannel_std: [0.5, 0.25, 0.125]\n"
    path = write(tmp_path, CHANNELS.format(batch="batch"), THREE_CLASSES + THREE_CHANNELS + scales)
    assert kind_of_bundle(path) == "detector"
    finding = Detector.load(path, lungs=False)(grey(0.6))
    value = round(0.6 * 255) / 255
    logits = np.array([(value - 0.5) / 0.5, (value - 0.25) / 0.25, value / 0.125])
    wanted = np.exp(logits) / np.exp(logits).sum()
    assert list(finding.probabilities) == ["normal", "covid", "cancer"]
    assert list(finding.probabilities.values()) == pytest.approx(wanted.tolist(), abs=1e-5)
    assert finding.verdict == "not covid"
    assert finding.predicted_class == "cancer"
    assert not finding.has_evidence
    assert finding.picture().size == (32, 32), "the slice without a heatmap"


@pytest.mark.parametrize("batch", ["1", "batch"])
def test_a_batch_of_one_or_of_any_length_is_taken(tmp_path: Path, batch: str) -> None:
    path = write(tmp_path, CHANNELS.format(batch=batch), THREE_CLASSES + THREE_CHANNELS)
    assert Detector.load(path, lungs=False)(grey(0.2)).probability == pytest.approx(1 / 3)


def test_channels_may_come_last(tmp_path: Path) -> None:
    path = write(tmp_path, LAST, THREE_CLASSES + THREE_CHANNELS + "channel_mean: [0, 1, 0]\n")
    finding = Detector.load(path, lungs=False)(grey(0.2))
    assert finding.probability == pytest.approx(1 / (1 + 2 * np.e), abs=1e-5)


def test_a_single_output_is_that_of_the_second_class(tmp_path: Path) -> None:
    path = write(tmp_path, TWO, "gives: probabilities\noutput: mean\n" + ONE_CHANNEL)
    assert Detector.load(path, lungs=False)(grey(0.2)).probability == pytest.approx(0.2, abs=1e-6)
    write(tmp_path, TWO, "gives: probabilities\noutput: mean\nclasses: [covid, normal]\n" + ONE_CHANNEL)
    finding = Detector.load(path, lungs=False)(grey(0.2))
    assert finding.probability == pytest.approx(0.8, abs=1e-6)
    assert finding.verdict == "covid"


def test_another_description_is_another_model(tmp_path: Path) -> None:
    path = write(tmp_path, TWO, "gives: probabilities\noutput: mean\n" + ONE_CHANNEL)
    first = Bundle.load(path).facts.graph_sha256
    path.with_suffix(".yaml").write_text("gives: probabilities\noutput: mean\nthreshold: 0.4\n" + ONE_CHANNEL)
    assert Bundle.load(path).facts.graph_sha256 != first


@pytest.mark.parametrize(
    ("graph", "description", "told"),
    [
        (TWO, None, "mine.yaml: not found"),
        (TWO, "just text", "mine.yaml: does not describe a model"),
        (TWO, "gives: [", "mine.yaml: is not readable as YAML"),
        (TWO, ONE_CHANNEL, "mine.yaml: gives: Field required"),
        (TWO, "gives: logits\nsize: 3\n" + ONE_CHANNEL, "mine.yaml: size: Extra inputs"),
        (TWO, "gives: logits\nclasses: [sick, well]\n" + ONE_CHANNEL, "one of them covid"),
        (TWO, "gives: logits\npreprocessing: {mean: [0.5, 0.4, 0.3]}\n", "channel_mean"),
        (TWO, "gives: logits\nchannel_mean: [0, 0, 0]\n" + ONE_CHANNEL, "preprocessing.channels: 3"),
        (TWO, "gives: logits\n" + ONE_CHANNEL, "has 2 outputs; name the one with the answer in mine.yaml"),
        (TWO, "gives: logits\noutput: x\n" + ONE_CHANNEL, "has no output x; .* output: map or mean"),
        (TWO, "gives: logits\noutput: mean\n" + THREE_CHANNELS, r"its description states \[3, 32, 32\]"),
        (CHANNELS.format(batch=8), THREE_CLASSES + THREE_CHANNELS, "a batch axis of 1 or of any length"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(
    tmp_path: Path, graph: str, description: str | None, told: str
) -> None:
    path = write(tmp_path, graph, description)
    with pytest.raises(BundleError, match=f"(?s){told}"):
        Detector.load(path, lungs=False)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, TWO, "gives: logits\noutput: mean\n" + ONE_CHANNEL)
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"mine.onnx: cannot be read as an ONNX graph \(.+\); export it"):
        Detector.load(path, lungs=False)
    path.unlink()
    with pytest.raises(BundleError, match=r"mine\.onnx: cannot be read"):
        Detector.load(path, lungs=False)


def test_answers_that_are_not_what_was_stated_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, CHANNELS.format(batch="batch"), "gives: logits\n" + THREE_CHANNELS)
    with pytest.raises(BundleError, match="gives 3 values for a slice, but the classes are not covid, covid"):
        Detector.load(path, lungs=False)(grey(0.2))


def answering(answer: ArrayLike, **described: object) -> Detector:
    return Detector.of_function(lambda slices: answer, GREY, lungs=False, **described)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ([[0.3, 0.3]], "sum to 0.600 instead of 1"),
        ([1.7], "values from 1.7 to 1.7, which are not probabilities; state 'gives: logits'"),
        ([float("nan")], "answered flat with NaN"),
        ([0.1, 0.2], r"shape \(2,\) for 1 slices"),
        (0.4, r"shape \(\) for 1 slices"),
    ],
)
def test_a_function_that_answers_wrongly_is_refused(answer: ArrayLike, told: str) -> None:
    with pytest.raises(BundleError, match=told):
        answering(answer)(grey(0.2))


def test_a_function_is_asked_in_batches_and_answers_in_order() -> None:
    lengths = []

    def brightness(slices: NDArray[np.float32]) -> NDArray[np.float32]:
        lengths.append(slices.shape)
        return slices.mean(axis=(1, 2, 3))

    detector = Detector.of_function(brightness, GREY, lungs=False, name="brightness", threshold=0.32)
    values = [number / 20 for number in range(20)]
    found = list(detector.predict_scans(grey(value) for value in values))
    assert lengths == [(16, 1, 32, 32), (4, 1, 32, 32)]
    assert [one.probability for one in found] == pytest.approx(values, abs=1 / 255)
    assert [one.verdict for one in found] == ["covid" if value >= 0.32 else "not covid" for value in values]
    assert repr(detector) == "Detector('brightness')"
    assert answering([[1.0, 0.0]])(grey(0.2)).probability == 0
    assert answering([2.0], gives="logits")(grey(0.2)).probability == pytest.approx(1 / (1 + np.exp(-2)))


def test_nothing_is_recorded_in_a_model_without_a_bundle() -> None:
    with pytest.raises(BundleError, match="my-model: results are recorded in a bundle"):
        answering([0.4]).bundle.check_enterable()


def test_what_it_was_trained_on_is_known_only_if_stated() -> None:
    assert not answering([0.4]).bundle.facts.training.known
    stated = answering([0.4], trained_on=("covid-ct",)).bundle.facts.training
    assert stated.known
    assert stated.sources == ("covid-ct",)
    assert answering([0.4], trained_on=()).bundle.facts.training.known
    assert "It is not stated what it was trained on." in Bundle.card_of(answering([0.4]).bundle.facts)


def test_a_description_knows_the_classes_by_any_of_their_names() -> None:
    described = Description(gives="logits", classes=("non-COVID", "COVID-19"), preprocessing=GREY)
    assert described.classes == ("not covid", "covid")
