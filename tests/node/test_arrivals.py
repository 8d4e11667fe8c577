"""When a study is complete, which of its images are answered, and which version is valid."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from noding import QUIET, Noded, Sending, wait

from groundglass.node.arrivals import KEYWORDS, left_out
from groundglass.node.config import Choice
from groundglass.scan.dicom.headers import CT_CLASSES
from groundglass.store.backup import back_up, restore
from groundglass.store.history import files_of

Start = Callable[..., Noded]


def test_an_open_association_and_each_instance_hold_a_study_back(noded: Start, chest: Any) -> None:
    noded = noded()
    images = chest("open")
    with Sending(noded.node.receiver.port) as sending:
        sending.send(images[0])
        time.sleep(3 * QUIET)
        assert [one.state for one in noded.arrivals()] == ["receiving"]
        sending.send(images[1])
    noded.settled()
    assert [one.study.files for one in noded.studies()] == [2]


def test_three_associations_with_gaps_are_one_study_and_two_interleaved_ones_two(
    noded: Start, chest: Any
) -> None:
    noded = noded(quiet_seconds=4)
    one, other = chest("gaps"), chest("interleaved")
    for part in range(3):
        pairs = zip(one[2 * part : 2 * part + 2], other[2 * part : 2 * part + 2], strict=True)
        noded.send([image for pair in pairs for image in pair])
        time.sleep(0.5)
    noded.settled()
    assert sorted(entry.study.uid or "" for entry in noded.studies()) == sorted(
        images[0].StudyInstanceUID for images in (one, other)
    )
    assert [(entry.study.files, entry.version) for entry in noded.studies()] == [(6, 1), (6, 1)]


def test_late_and_corrected_slices_make_versions_and_the_same_ones_none(noded: Start, chest: Any) -> None:
    noded = noded()
    images = chest("versions")

    def versions(send: list[Any]) -> list[int]:
        assert set(noded.send(send)) == {0}
        noded.settled()
        return [entry.study.files for entry in noded.studies()]

    assert versions(images[:4]) == [4]
    assert versions(images[:2]) == [4]
    assert versions(images[4:]) == [4, 6]
    corrected = chest("versions")[0]
    corrected.RescaleIntercept = "-1000"
    assert versions([corrected]) == [4, 6, 6]
    assert versions(images) == [4, 6, 6, 6]  # taken back
    for _ in range(9):
        noded.send(images)
    assert versions(images) == [4, 6, 6, 6]
    entries = noded.studies()
    assert [one.superseded_by for one in entries] == [two.study.id for two in entries[1:]] + [None]
    names = {file.sha256 for file in files_of(noded.database, entries[3].study.id)}
    assert names == {file.sha256 for file in files_of(noded.database, entries[1].study.id)}


def test_many_associations_at_once_bring_each_instance_into_its_study(noded: Start, chest: Any) -> None:
    noded = noded(quiet_seconds=2)  # a busy machine may pause between two of them
    images = [image for key in ("one", "other") for image in chest(key, 8)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(noded.send, ([image] for image in images))) == [[0]] * 16
    noded.settled()
    assert [(entry.study.files, entry.version) for entry in noded.studies()] == [(8, 1), (8, 1)]


def test_a_backup_has_what_was_acknowledged_and_is_not_complete(
    noded: Start, chest: Any, tmp_path: Path
) -> None:
    begun = noded(quiet_seconds=60)
    images = chest("backup")
    begun.send(images[:3])
    wait(begun.arrivals)
    with Sending(begun.node.receiver.port) as sending:
        for image in images[3:]:
            sending.send(image)
        back_up(begun.database, begun.data, tmp_path / "backup.tar")
    begun.node.stop()
    restored = replace(begun, data=tmp_path / "restored")
    restore(tmp_path / "backup.tar", restored.data)
    after = noded(again=restored)
    after.settled()
    assert [entry.study.files for entry in after.studies()] == [6]


@pytest.mark.parametrize(
    ("values", "choice", "why"),
    [
        ({}, {}, ""),
        ({"Modality": "MR"}, {}, "its modality is not CT"),
        ({"BodyPartExamined": "chestabdomen"}, {}, ""),
        ({"BodyPartExamined": "HEAD"}, {}, "its body part"),
        ({"BodyPartExamined": "HEAD"}, {"body_part": ""}, ""),
        ({"SeriesDescription": "Thorax 1.0 Lung"}, {"description": "thorax|chest"}, ""),
        ({"SeriesDescription": "Knee"}, {"description": "thorax|chest"}, "its description does not match"),
        ({"SeriesDescription": "Topogram"}, {"not_description": "topo|scout"}, "its description matches"),
        ({"SliceThickness": "5"}, {"thickness_mm": (0, 3)}, "its slices are not 0 to 3 mm"),
        ({"SliceThickness": "1.25"}, {"thickness_mm": (0, 3)}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, {}, "is not a CT image"),
    ],
)
def test_rules_choose(values: dict[str, str], choice: dict[str, Any], why: str) -> None:
    header = {**dict.fromkeys(KEYWORDS, ""), "Modality": "CT", "SOPClassUID": CT_CLASSES[0], **values}
    reason = left_out(header, Choice.model_validate(choice))
    assert bool(reason) == bool(why)
    assert reason.startswith(why)


def test_what_no_rule_chooses_is_listed_and_not_kept(noded: Start, chest: Any) -> None:
    noded = noded()
    noded.send(chest("head", BodyPartExamined="HEAD"))
    noded.settled()
    (arrival,) = noded.arrivals()
    assert (arrival.state, noded.studies()) == ("ignored", [])
    assert list(arrival.left_out.values()) == [6]
    assert not [path for path in (noded.data / "node").rglob("*") if path.is_file()]


def test_an_instance_whose_header_is_damaged_is_kept_and_listed(noded: Start, chest: Any) -> None:
    noded = noded()
    images = chest("damaged")
    del images[0].StudyInstanceUID
    assert noded.send(images) == [0] * 6
    noded.settled()
    assert [entry.study.files for entry in noded.studies()] == [5]
    assert [(one.state, one.left_out) for one in noded.arrivals() if not one.uid] == [
        ("ignored", {"its header cannot be read": 1})
    ]
    assert len([path for path in (noded.data / "node" / "pending").rglob("*") if path.is_file()]) == 1


def test_a_study_waits_for_what_the_archive_still_has(
    noded: Start, chest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from groundglass.node import arrivals

    images = chest("counted")
    monkeypatch.setattr(arrivals, "ASKED", 0.1)
    noded = noded()
    series = arrivals.code_of(images[0].SeriesInstanceUID)
    counts = {series: 6}
    monkeypatch.setattr(noded.node._arrivals, "_counted", lambda study: counts)
    noded.send(images[:4])
    wait(lambda: [one.problem for one in noded.arrivals()] == ["2 instances in the PACS did not arrive"])
    assert noded.studies() == []
    noded.send(images[4:])
    noded.settled()
    assert [entry.study.files for entry in noded.studies()] == [6]


def test_what_was_interrupted_anywhere_is_taken_up(
    noded: Start, chest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from groundglass.node import arrivals

    images = chest("interrupted")
    for number, step in enumerate(("_enter", "_take", "_update", "_hand_over")):
        with monkeypatch.context() as patched:
            begun = noded()
            if step == "_enter":  # entered, but not moved
                patched.setattr(arrivals.Path, "mkdir", lambda *_, **__: 1 / 0)
            else:
                patched.setattr(arrivals.Arrivals, step, lambda *_, **__: 1 / 0)
            if step != "_enter":
                begun.send(images)
                time.sleep(3 * QUIET)
            begun.node.stop()
        after = noded(again=begun)
        if step == "_enter":
            after.send(images)
        after.settled()
        assert [entry.study.files for entry in after.studies()] == [6], (number, step)
