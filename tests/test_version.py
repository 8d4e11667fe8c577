"""The version changes when results may change: findings on phantoms are stored with the version that made them.

After an intended change of results, ``python tests/test_version.py`` stores the new findings, if the version and
the formats follow the rules in CHANGELOG.md.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from groundglass import __version__
from groundglass.bundle.facts import FORMAT
from groundglass.bundle.store import shipped_bundles
from groundglass.commands.predict_volumes import RESULTS_FORMAT
from groundglass.detect.detector import Detector
from groundglass.files import sha256
from groundglass.phantom import write_phantom_set
from groundglass.phantom.volumes import write_phantom_volumes
from groundglass.train.slices import DECODING_FORMAT

ROOT = Path(__file__).parents[1]
STORED = Path(__file__).with_name("findings_by_version.json")
FORMATS = {"RESULTS_FORMAT": RESULTS_FORMAT, "DECODING_FORMAT": DECODING_FORMAT, "bundle FORMAT": FORMAT}
TOLERANCES = {"probability": 0.03, "lesion share": 0.005, "lungs, ml": 12.0, "lesions, ml": 3.0}
"""About five times the effect of computing the segmenter in 32 bits instead of 16, as some processors do."""
UNRELEASED = "unreleased"


Findings = dict[str, dict[str, Any]]


def findings(folder: Path) -> Findings:
    """What the shipped detectors find on three slices and on a volume."""
    rows = write_phantom_set(folder / "slices", count=3, disease="mixed", shape=(3, 256, 256))
    middle = [path for path in sorted(row["path"] for row in rows) if path.endswith("_001.png")]
    found = {}
    for name in shipped_bundles("detector"):
        detector = Detector.load(name, lungs=True)
        for path in middle:
            finding = detector(path)
            found[f"{name}, {Path(path).stem}"] = {
                "verdict": finding.verdict,
                "probability": round(finding.probability, 4),
                "lesion share": round(finding.lesion_share or 0.0, 4),
            }
    (scan,) = write_phantom_volumes(
        folder / "volumes", count=1, disease="covid", seed=7, shape=(20, 256, 256), form="nifti"
    )
    finding = Detector.load()(scan)
    both = finding.extent["both"]
    found["volume"] = {
        "verdict": finding.verdict,
        "probability": round(finding.probability, 4),
        "lesion share": round(both.lesion_share, 4),
        "lungs, ml": round(both.lung_ml, 1),
        "lesions, ml": round(both.lesion_ml, 1),
    }
    return found


def differences(now: Findings, stored: Findings) -> list[str]:
    """Differences between two findings that exceed those between processors."""
    if now.keys() != stored.keys():
        return [f"other scans: {sorted(now.keys() ^ stored.keys())}"]
    return [
        f"{scan}: {name} {stored[scan].get(name)}, now {value}"
        for scan, values in now.items()
        for name, value in values.items()
        if value != pytest.approx(stored[scan].get(name), abs=TOLERANCES.get(name))
    ]


def changelog() -> dict[str, str]:
    """The date, or ``unreleased``, of each version in CHANGELOG.md, the newest first."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\S+)$", text, flags=re.MULTILINE))


def bundles() -> dict[str, str]:
    """The SHA-256 of each shipped graph."""
    return {name: sha256(folder / "model.onnx") for name, folder in shipped_bundles().items()}


def refusal(stored: dict[str, Any], now: dict[str, Any], dates: dict[str, str]) -> str:
    """Why changed findings must not be stored; blank if they may."""
    if now["version"] not in dates:
        return f"CHANGELOG.md has no version {now['version']}: add it, and describe the change"
    if now["version"] == stored["version"] and dates[now["version"]] != UNRELEASED:
        return f"version {now['version']} is released: raise groundglass.__version__, and describe the change"
    if now["bundles"] == stored["bundles"] and now["formats"] == stored["formats"]:
        return "no bundle has changed: raise RESULTS_FORMAT, so that studies already done are answered again"
    return ""


def state(folder: Path) -> dict[str, Any]:
    """What is stored."""
    return {
        "version": __version__,
        "formats": FORMATS,
        "bundles": bundles(),
        "findings": findings(folder),
    }


def store() -> None:
    """Store today's findings if they differ from those stored and the rules allow it."""
    with tempfile.TemporaryDirectory() as folder:
        now = state(Path(folder))
    if STORED.exists():
        stored = json.loads(STORED.read_text(encoding="utf-8"))
        changed = differences(now["findings"], stored["findings"])
        if changed and (why := refusal(stored, now, changelog())):
            raise SystemExit("\n".join((*changed, why)))
    STORED.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return content


def test_findings_are_those_that_are_stored_with_the_version(stored: dict[str, Any], tmp_path: Path) -> None:
    changed = differences(findings(tmp_path), stored["findings"])
    assert not changed, (
        f"results differ from those of version {stored['version']}. If that is intended, follow the rules in "
        "CHANGELOG.md and run  python tests/test_version.py"
    )


def test_a_changed_format_is_stored_with_the_version(stored: dict[str, Any]) -> None:
    assert stored["formats"] == FORMATS, "run  python tests/test_version.py  and describe why in CHANGELOG.md"


def test_the_changelog_describes_this_version_first(stored: dict[str, Any]) -> None:
    newest, *_ = changelog()
    assert newest == __version__
    assert stored["version"] in changelog()


def test_differences_are_seen_beyond_what_a_processor_explains(stored: dict[str, Any]) -> None:
    shifted = {scan: dict(values) for scan, values in stored["findings"].items()}
    shifted["volume"]["probability"] -= 0.01
    assert not differences(shifted, stored["findings"])
    shifted["volume"]["probability"] -= 0.03
    shifted["volume"]["verdict"] = "uncertain"
    assert len(differences(shifted, stored["findings"])) == 2
    del shifted["volume"]
    assert differences(shifted, stored["findings"]) == ["other scans: ['volume']"]


def test_changed_findings_need_a_new_version_once_it_is_released(stored: dict[str, Any]) -> None:
    now = stored | {"formats": {**FORMATS, "RESULTS_FORMAT": 99}}
    version = stored["version"]
    assert not refusal(stored, now, {version: UNRELEASED})
    assert "is released" in refusal(stored, now, {version: "2026-12-01"})
    assert "has no version" in refusal(stored, now | {"version": "99.0.0"}, {version: "2026-12-01"})
    assert not refusal(stored, now | {"version": "99.0.0"}, {"99.0.0": UNRELEASED, version: "2026-12-01"})
    assert "raise RESULTS_FORMAT" in refusal(stored, stored, {version: UNRELEASED})
    assert not refusal(stored, stored | {"bundles": {}}, {version: UNRELEASED})


if __name__ == "__main__":
    store()
