"""The facts about a trained detector that ``bundle.json`` contains."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from groundglass.bundle.engine import Engine, Precision
from groundglass.bundle.evaluation import Evaluation
from groundglass.bundle.facts import Facts, card, describe_input
from groundglass.bundle.store import Reader, StoredBundle
from groundglass.detect.abstention import Abstention, decide
from groundglass.detect.findings import SliceFinding
from groundglass.detect.patient_rule import LEAST_SHARE, PatientRule, slices_rule
from groundglass.detect.setting import CONTROLS, Setting
from groundglass.errors import BundleError
from groundglass.labels import POSITIVE, UNCERTAIN
from groundglass.segment.segmenter import SegmenterBundle

if TYPE_CHECKING:
    from groundglass.detect.own_model import OwnEngine


class BundleFacts(Facts):
    """The content of a detector's ``bundle.json``.

    Attributes
    ----------
    precision
        The numeric precision in which the network runs.
    classes
        The classes of the logits, including COVID-19; empty if there is a single logit, that of COVID-19.
    temperature
        ``probability = sigmoid(logit / temperature + bias)``; with several classes ``softmax(logits /
        temperature)``.
    bias
        See ``temperature``; 0 with several classes.
    threshold
        The verdict is ``covid`` at or above this probability of COVID-19, unless there is an ``abstention``.
    abstention
        The verdict for each probability, including ``uncertain``; None if the detector never abstains.
    segmenter_sha256
        SHA-256 of the graph of the segmenter it was trained with, "" for none.
    patient
        The rule that combines a patient's slices into one answer; None if no rule was chosen.
    setting, settings
        The name of the setting in which it answers, and all settings that it knows; empty if its probability
        belongs to no setting. The setting determines threshold, abstention and patient rule, and its weights
        replace temperature and bias.
    pretest
        The pre-test probability of COVID-19 that the user gave. It adds a post-test probability and changes
        no verdict.
    """

    kind: Literal["detector"] = "detector"
    precision: Precision = "f32"
    classes: tuple[str, ...] = ()
    temperature: Annotated[float, Field(gt=0)]
    bias: float = 0.0
    threshold: Annotated[float, Field(ge=0, le=1)]
    abstention: Abstention | None = None
    segmenter_sha256: str = ""
    validation: Evaluation | None = None
    patient: PatientRule | None = None
    setting: str = ""
    settings: dict[str, Setting] = Field(default_factory=dict)
    pretest: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_distance(cls, stated: Any) -> Any:
        """Bundles of version 0.2 have a field for a limit, which none of them sets."""
        if isinstance(stated, dict) and stated.get("furthest", 0) is None:
            return {name: value for name, value in stated.items() if name != "furthest"}
        return stated

    def stored(self) -> Self:
        """The facts as stored: in the default setting, without a pre-test probability."""
        return self.in_setting(next(iter(self.settings))) if self.settings else self

    @property
    def patient_rule(self) -> PatientRule:
        """The rule that answers for patients: the chosen one, or else the rule for slices."""
        return self.patient or slices_rule(self.threshold, self.abstention)

    def in_setting(self, name: str, pretest: float | None = None) -> Self:
        """The facts for another setting; raises BundleError if the bundle does not know it."""
        if name not in self.settings:
            known = ", ".join(self.settings) or "none, so leave out --setting"
            raise BundleError(f"{self.name}: does not know the setting {name!r}; it knows {known}")
        chosen = self.settings[name]
        names = ("threshold", "abstention", "patient")
        updates = {one: getattr(chosen, one) for one in names}
        return self.model_copy(update={"setting": name, "pretest": pretest, **updates})

    def answer(self, logits: ArrayLike, lesion_probability: float | None = None) -> SliceFinding:
        """Score, calibrated probability and verdict of one slice.

        Parameters
        ----------
        logits
            The network's logit, or its logits, shape (classes,).
        lesion_probability
            The mean lesion probability over the lungs, in [0, 1]. Settings combine it with the logit.
        """
        values = np.asarray(logits, dtype=float)
        if not self.classes:
            logit = float(values)
            by_setting = {name: one.logits(logit, lesion_probability) for name, one in self.settings.items()}
            plain = logit / self.temperature + self.bias
            finding = SliceFinding(
                _sigmoid(logit),
                _sigmoid(by_setting[self.setting][0] if self.setting else plain),
                lesion_probability=lesion_probability,
                likelihood_ratios=tuple(
                    self.settings[name].ratio(name, logits, self.pretest)
                    for name, logits in by_setting.items()
                ),
            )
            return self._decided(finding)
        covid = self.classes.index(POSITIVE)
        probabilities = _softmax(values / self.temperature)
        by_class = dict(zip(self.classes, probabilities.tolist(), strict=True))
        score, probability = float(_softmax(values)[covid]), float(probabilities[covid])
        finding = self._decided(SliceFinding(score, probability, probabilities=by_class))
        others = np.where(np.arange(len(self.classes)) == covid, -1.0, probabilities)
        answers = {POSITIVE: POSITIVE, UNCERTAIN: ""}
        return replace(
            finding, predicted_class=answers.get(finding.verdict, self.classes[int(others.argmax())])
        )

    def _decided(self, finding: SliceFinding) -> SliceFinding:
        """The finding with its verdict, and the reason if it is ``uncertain``."""
        verdict, reason = decide(finding.probability or 0.0, self.threshold, self.abstention)
        return replace(finding, verdict=verdict, reason=reason)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def model_card(facts: BundleFacts) -> str:
    """The model card as Markdown."""
    evidence = ", with a map of the areas that point to it" if facts.training.parts else ""
    what_it_does = [
        "It takes an axial chest CT slice and returns the probability that the slice shows COVID-19 (the positive"
        f" class){evidence}. It answers no other question: a slice of another body part, another projection or"
        " another disease also gets a probability.",
        "",
        "It is intended for research and teaching with chest CT of adults. It is not intended to detect, exclude or"
        " grade a disease in a patient, nor for children, radiographs or slices without lungs.",
        "",
        f"- Input: {describe_input(facts)}",
        *_calibration(facts),
        *([f"- Classes: {', '.join(facts.classes)}; each gets a probability"] if facts.classes else []),
        *_verdicts(facts),
        *_patients(facts.patient),
    ]
    note = "95% intervals by bootstrap over patients. The positive class is COVID-19."
    return card(facts, what_it_does, positive="COVID-19", validation_note=note)


def _calibration(facts: BundleFacts) -> list[str]:
    if not facts.settings:
        bias = f", bias {facts.bias:.3f}" if facts.bias else ""
        return [f"- Calibration: temperature {facts.temperature:.3f}{bias}"]
    lines = []
    for name, setting in facts.settings.items():
        known = f"validated on {', '.join(setting.sources)}" if setting.sources else "not validated"
        default = "the default; " if name == facts.setting else ""
        constant, logit, share = setting.weights
        lines += [
            f"- Setting {name} ({default}{CONTROLS[name]}; {known}): logarithm of the likelihood ratio = "
            f"{constant:.2f} + {logit:.2f} x logit + {share:.2f} x log(mean lesion probability + {LEAST_SHARE:g})",
            *(f"    - {choice}" for choice in setting.chosen),
        ]
        if setting.abstention and name != facts.setting:
            lines += _abstention(f"Verdict for {name}", setting.abstention, "slices")
    return lines


def _verdicts(facts: BundleFacts) -> list[str]:
    if facts.abstention is None:
        return [f"- Verdict: `covid` at a probability of {facts.threshold:.3f} or more, else `not covid`"]
    return _abstention("Verdict", facts.abstention, "slices")


def _abstention(title: str, abstention: Abstention, of: str) -> list[str]:
    return [
        f"- {title}: {abstention.ends()}. {abstention.meaning(of)}",
        *[f"    - {choice}" for choice in abstention.chosen],
    ]


def _patients(rule: PatientRule | None) -> list[str]:
    if rule is None:
        return ["- Patients: no rule was chosen; the answer for a volume is not calibrated"]
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in rule.weights.items())
    return [
        f"- Patients: {rule.aggregation} (weights: {weights}; intercept {rule.intercept:.3f})"
        + ("" if rule.abstention else f", `covid` at a probability of {rule.threshold:.3f} or more"),
        *[f"    - {choice}" for choice in rule.chosen],
        *(_abstention("Verdict on patients", rule.abstention, "patients") if rule.abstention else []),
    ]


SEGMENTER = "segmenter/"


@dataclass(repr=False)
class Bundle(StoredBundle[BundleFacts]):
    """A detector's bundle, read from disk.

    Attributes
    ----------
    segmenter
        The segmenter that its preprocessing needs; None if it needs none.
    """

    segmenter: SegmenterBundle | None = None

    kind: ClassVar[str] = "detector"
    default: ClassVar[str] = "detector-lesions"
    facts_type: ClassVar[type[Facts]] = BundleFacts

    @classmethod
    def card_of(cls, facts: BundleFacts) -> str:
        """The model card of facts, as Markdown."""
        return model_card(facts)

    @classmethod
    def load(cls, name_or_path: str | Path | None = None) -> Self:
        """Read a bundle, or a model of your own from its ONNX file (docs/own-model.md).

        Parameters and errors are as in :meth:`StoredBundle.load`.
        """
        if name_or_path is not None and Path(name_or_path).suffix.lower() == ".onnx":
            from groundglass.detect.own_model import OwnModel

            return OwnModel.of_file(Path(name_or_path))  # type: ignore[return-value]
        return super().load(name_or_path)

    def engine(self) -> "Engine | OwnEngine":
        """Whatever runs the network."""
        preprocessing = self.facts.preprocessing
        shape = (preprocessing.channels, *preprocessing.size)
        return Engine(self.graph, shape, self.facts.precision)

    @classmethod
    def _read(cls, read: Reader, source: Path) -> Self:
        bundle = super()._read(read, source)
        preprocessing = bundle.facts.preprocessing
        if preprocessing.lungs == "none":
            return bundle
        shipped = SegmenterBundle.is_shipped(preprocessing.segmenter)
        bundle.segmenter = (
            SegmenterBundle.load(preprocessing.segmenter)
            if shipped
            else SegmenterBundle.read_inner(read, SEGMENTER, source)
        )
        if bundle.segmenter.facts.graph_sha256 != bundle.facts.segmenter_sha256:
            raise BundleError(
                f"{source}: was trained with a different {preprocessing.segmenter} than the installed one; "
                "train it again, or use the version of Groundglass it was trained with"
            )
        return bundle

    def content(self) -> dict[str, bytes]:
        """The bundle's files, by name."""
        inner, content = self.segmenter, super().content()
        if inner is None or SegmenterBundle.is_shipped(self.facts.preprocessing.segmenter):
            return content
        return content | {SEGMENTER + name: data for name, data in inner.content().items()}
