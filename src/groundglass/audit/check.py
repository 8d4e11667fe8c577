"""The base class of checks, their results, and the search for the checks in a package.

Like skore's checks, each is a small class with a code and a section in the docs. The class measures; its
texts are in ``checks.yaml``, by its code: the title, the worst severity, what the check needs, the remedy,
and templates (jinja2) of the message, the name of the figure, and the table's header, with columns separated
by ``|``.
"""

import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from types import ModuleType
from typing import Any, ClassVar, Generic, Literal, TypeVar

import yaml
from jinja2 import Environment, StrictUndefined

from groundglass.bundle.evaluation import Estimate, format_estimate
from groundglass.errors import count_of

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Severities, worst first."""
DOCS = "docs/audit-checks.md"
Subject = TypeVar("Subject")
NOTHING = Estimate(value=None)


class NotApplicable(Exception):  # noqa: N818 (not an error)
    """Raised by a check that does not apply to its subject; the message gives the reason in a full sentence."""


@dataclass(frozen=True)
class Result:
    """What a check reports about its subject.

    Attributes
    ----------
    severity
        How serious the finding is; None if nothing is wrong.
    message
        One or two full sentences with the figures, for a reader who does not know the check.
    figure, measure
        The figure with its interval, and its name, such as ``"AUC, 5-fold"``.
    files
        Absolute paths of the scans concerned.
    side_by_side
        Sets of files that belong together, the most revealing first.
    header, rows
        A table of details; cells are text.
    """

    severity: Severity | None
    message: str
    figure: Estimate = NOTHING
    measure: str = ""
    files: tuple[str, ...] = ()
    side_by_side: tuple[tuple[str, ...], ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@cache
def _words() -> dict[str, dict[str, Any]]:
    """The checks' texts, by code."""
    text = resources.files(__package__).joinpath("checks.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _formatted(value: object, form: str) -> str:
    """A value in Python's format; an estimate with this many digits."""
    return format_estimate(value, int(form)) if isinstance(value, Estimate) else format(value, form)


_TEMPLATES = Environment(
    undefined=StrictUndefined,
    finalize=lambda value: format_estimate(value) if isinstance(value, Estimate) else value,
    autoescape=False,  # plain text, which the report escapes
)
_TEMPLATES.filters |= {"as": _formatted, "counted": count_of}


def rendered(template: str, values: dict[str, Any]) -> str:
    """A template with its values, in one line."""
    return " ".join(_TEMPLATES.from_string(template).render(values).split())


class Check(ABC, Generic[Subject]):
    """One question about labelled scans, or about a detector on them.

    All attributes but the code come from ``checks.yaml``.

    Attributes
    ----------
    code
        ``GG1xx`` for data, ``GG2xx`` for a detector; never reused.
    title
        What the check looks for, as a short phrase.
    severity
        The worst severity that it reports.
    needs
        Names in the subject's ``NEEDS``; if one is not met, the check does not apply.
    remedy
        What to do if something was found, full sentences.
    message, measure, header
        Templates of the result's parts with these names.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    severity: ClassVar[Severity]
    needs: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str]
    message: ClassVar[str]
    measure: ClassVar[str] = ""
    header: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        for name, words in _words().get(cls.__dict__.get("code", ""), {}).items():
            setattr(cls, name, words)

    def result(
        self,
        severity: Severity | None,
        figure: Estimate = NOTHING,
        *,
        files: Iterable[str] = (),
        side_by_side: Iterable[Iterable[str]] = (),
        rows: Iterable[Iterable[object]] = (),
        **values: Any,
    ) -> Result:
        """The result, with the check's texts filled in.

        Parameters
        ----------
        files, side_by_side, rows
            As in :class:`Result`; cells become text, and an estimate is shown with its interval.
        values
            Values for the templates, besides ``severity`` and ``figure``.
        """
        values |= {"severity": severity, "figure": figure}
        cells = tuple(tuple(_cell(cell) for cell in row) for row in rows)
        return Result(
            severity,
            rendered(self.message, values),
            figure,
            rendered(self.measure, values),
            tuple(map(str, files)),
            tuple(tuple(map(str, together)) for together in side_by_side),
            tuple(rendered(self.header, values).split(" | ")) if cells else (),
            cells,
        )

    @abstractmethod
    def run(self, subject: Subject) -> Result:
        """Check a subject; raises NotApplicable if that makes no sense."""

    @classmethod
    def page(cls) -> str:
        """The section of the documentation that explains the check and its limits."""
        return f"{DOCS}#{cls.code.lower()}"


def _cell(value: object) -> str:
    return format_estimate(value) if isinstance(value, Estimate) else str(value)


Status = Literal["found", "passed", "not applicable"]


@dataclass(frozen=True)
class CheckOutcome:
    """A check and its result; if that is None, ``reason`` says why the check does not apply."""

    check: type[Check[Any]]
    result: Result | None
    reason: str = ""

    @property
    def status(self) -> Status:
        """``found``, ``passed`` or ``not applicable``."""
        if self.result is None:
            return "not applicable"
        return "passed" if self.result.severity is None else "found"

    @property
    def severity_found(self) -> Severity:
        """The severity of what was found; ValueError if nothing was."""
        if self.result is None or self.result.severity is None:
            raise ValueError(f"{self.check.code} found nothing")
        return self.result.severity

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shared = {"code": self.check.code, "title": self.check.title}
        if self.result is None:
            return {**shared, "severity": None, "status": self.status, "message": self.reason}
        result, figure = self.result, self.result.figure
        return {
            **shared,
            "severity": result.severity,
            "status": self.status,
            "figure": figure.value,
            "interval": None if figure.low is None else [figure.low, figure.high],
            "measure": result.measure,
            "files": list(result.files),
            "message": result.message,
            "remedy": self.check.remedy,
            "docs": self.check.page(),
            "side_by_side": [list(files) for files in result.side_by_side],
            "details": [dict(zip(result.header, row, strict=True)) for row in result.rows],
        }


def checks_in(package: ModuleType) -> list[type[Check[Any]]]:
    """The checks in a package's modules, sorted by code."""
    found: dict[str, type[Check[Any]]] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        content = import_module(module.name)
        for _, member in inspect.getmembers(content, inspect.isclass):
            if (
                issubclass(member, Check)
                and member.__module__ == module.name
                and not inspect.isabstract(member)
            ):
                if member.code in found:
                    raise ValueError(f"{member.code} is the code of {found[member.code]} and of {member}")
                found[member.code] = member
    return [found[code] for code in sorted(found)]


def worst(outcomes: Sequence[CheckOutcome]) -> Severity | None:
    """The worst severity that was found; None if nothing was."""
    given = {outcome.result.severity for outcome in outcomes if outcome.result is not None}
    return next((severity for severity in SEVERITIES if severity in given), None)


Tell = Callable[[str], None]


def run_checks(
    checks: Sequence[type[Check[Any]]], subject: Any, tell: Tell | None = None
) -> list[CheckOutcome]:
    """Run checks on a subject.

    Parameters
    ----------
    checks
        The checks, in the order in which they run.
    subject
        The subject; its ``NEEDS`` state whether anything is missing for a check.
    tell
        Called with each check's code and title before it runs.
    """
    outcomes = []
    for check in checks:
        if tell is not None:
            tell(f"{check.code} {check.title}")
        outcomes.append(_outcome(check, subject))
    return outcomes


def _outcome(check: type[Check[Any]], subject: Any) -> CheckOutcome:
    lacking = next(filter(None, (subject.NEEDS[need](subject) for need in check.needs)), "")
    if lacking:
        return CheckOutcome(check, None, lacking)
    try:
        return CheckOutcome(check, check().run(subject))
    except NotApplicable as reason:
        return CheckOutcome(check, None, str(reason))
