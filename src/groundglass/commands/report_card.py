"""``groundglass report card``: the model card and the reporting standards of a bundle or a run."""

import json
from pathlib import Path
from typing import Any

import yaml

from groundglass.bundle.store import CARD, FACTS, RECIPE, kind_of_bundle
from groundglass.detect.bundle import Bundle
from groundglass.files import write_bytes, write_text
from groundglass.report.card import Answer, Standard, answers, card_page, counted, markdown, standards
from groundglass.report.page import write_report
from groundglass.segment.segmenter import SegmenterBundle

NO_TRIPOD = "TRIPOD+AI is left out: it is for models that predict an outcome, and a segmenter draws masks."


def report_card(name_or_path: str | Path, folder: Path | str) -> dict[str, str]:
    """Write the model card, and CLAIM 2024 and TRIPOD+AI completed from recorded facts.

    Parameters
    ----------
    name_or_path
        The folder of a run, or a detector or segmenter as ``Bundle.load`` takes it.
    folder
        Where to write ``MODEL_CARD.md``, ``CLAIM-2024.md``, ``TRIPOD-AI.md``, ``report.html``, and the files that
        the answers lead to: ``bundle.json`` and ``recipe.yaml``.

    Returns
    -------
    By the name of each standard, the numbers of items answered, left to the author and not applicable.

    Raises
    ------
    BundleError
        If there is no such bundle, or it is damaged.
    """
    folder = Path(folder)
    segments = kind_of_bundle(name_or_path) == "segmenter"
    bundle = SegmenterBundle.load(name_or_path) if segments else Bundle.load(name_or_path)
    facts: Any = bundle.facts
    recipe: dict[str, Any] = yaml.safe_load(bundle.recipe) or {}
    run_file = Path(name_or_path) / "run.json"
    run = json.loads(run_file.read_text(encoding="utf-8")) if run_file.is_file() else {}
    filled: dict[str, tuple[Standard, list[Answer]]] = {}
    for standard in standards(facts):
        file = standard.title.replace(" ", "-").replace("+", "-") + ".md"
        filled[file] = standard, answers(standard, facts, recipe, run)
    for file, (standard, answered) in filled.items():
        write_text(folder / file, markdown(standard, facts, answered))
    content = bundle.content()
    for name in (CARD, FACTS, *([RECIPE] if bundle.recipe else [])):
        write_bytes(folder / name, content[name])
    write_report(card_page(facts, filled, [NO_TRIPOD] if segments else []), folder / "report.html")
    return {standard.title: counted(answered) for standard, answered in filled.values()}
