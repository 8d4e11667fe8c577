"""Making the checks, one after the other."""

from collections.abc import Callable, Sequence
from typing import Any

from groundglass.audit.check import Check, NotApplicable, Outcome

Tell = Callable[[str], None]


def run_checks(checks: Sequence[type[Check[Any]]], subject: Any, tell: Tell | None = None) -> list[Outcome]:
    """Make each check of a subject.

    Parameters
    ----------
    checks
        In the order in which they are made.
    subject
        What they look at; its ``NEEDS`` says what is lacking for a check, if anything.
    tell
        Called with each check's code and title before it is made.
    """
    outcomes = []
    for check in checks:
        if tell is not None:
            tell(f"{check.code} {check.title}")
        outcomes.append(_outcome(check, subject))
    return outcomes


def _outcome(check: type[Check[Any]], subject: Any) -> Outcome:
    lacking = next(filter(None, (subject.NEEDS[need](subject) for need in check.needs)), "")
    if lacking:
        return Outcome(check, None, lacking)
    try:
        return Outcome(check, check().run(subject))
    except NotApplicable as reason:
        return Outcome(check, None, str(reason))
