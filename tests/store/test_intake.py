"""Files that are received, their names, files that are refused, and the state after a kill."""

import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from groundglass.store import upload as uploading
from groundglass.store.database import Database
from groundglass.store.history import files_of, find, listed
from groundglass.store.intake import Wanted, accept
from groundglass.store.queue import claim, fail
from groundglass.store.retention import sweep
from groundglass.store.upload import FILES, INCOMING, STUDIES, Limits, RefusedError, Upload

LUNGS = Wanted("detector", "abc")


def send(
    database: Database,
    data: Path,
    files: Mapping[str, bytes],
    wanted: Wanted = LUNGS,
    limits: Limits | None = None,
) -> tuple[str, bool]:
    """Upload files and accept them."""
    with Upload(data, limits or Limits(free_bytes=0)) as upload:
        for name, content in files.items():
            file = upload.file(name)
            file.write(content)
            file.close()
        return accept(database, upload, wanted)


def packed(files: Mapping[str, bytes], **options: object) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def stored(data: Path, study: str) -> dict[str, bytes]:
    folder = data / STUDIES / study / FILES
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_files_are_stored_under_numbers_and_listed_under_their_names(database: Database, data: Path) -> None:
    study, new = send(database, data, {"Doe^John/IM1": b"a", "scan.NII.GZ": b"bb", "x/y.png": b"ccc"})
    assert new
    assert stored(data, study) == {"00001": b"a", "00002.nii.gz": b"bb", "00003.png": b"ccc"}
    assert [(file.name, file.size) for file in files_of(database, study)] == [
        ("Doe^John/IM1", 1),
        ("scan.NII.GZ", 2),
        ("x/y.png", 3),
    ]
    entry = find(database, study)
    assert entry is not None
    assert (entry.study.state, entry.study.files, entry.study.size) == ("queued", 3, 6)
    assert not list((data / INCOMING).iterdir())


def test_the_two_files_of_an_analyze_volume_keep_their_connection(sqlite: Database, data: Path) -> None:
    study, _ = send(sqlite, data, {"b.png": b"0", "ct.hdr": b"1", "ct.img": b"2", "other/ct.hdr": b"3"})
    assert stored(data, study) == {"00001.png": b"0", "00002.hdr": b"1", "00002.img": b"2", "00003.hdr": b"3"}


def test_a_zip_is_unpacked(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"all.zip": packed({"a/1.dcm": b"1", "a/.DS_Store": b"x", "2": b"2"})})
    assert stored(data, study) == {"00002.dcm": b"1", "00003": b"2"}
    assert [file.name for file in files_of(database, study)] == ["a/1.dcm", "2"]


def test_the_same_study_is_kept_once_and_another_bundle_is_another_study(
    database: Database, data: Path
) -> None:
    files = {"1": b"one", "2": b"two"}
    first, _ = send(database, data, files)
    assert send(database, data, {"other name": b"two", "1": b"one"}) == (first, False)
    assert send(database, data, files, Wanted("detector", "another version")) != (first, False)
    assert send(database, data, files, replace(LUNGS, options={"anonymise": True}))[1]
    assert listed(database)[1] == 3
    assert len(list((data / STUDIES).iterdir())) == 3


def test_a_failed_study_that_is_sent_again_is_tried_again(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"1": b"one"})
    lease = claim(database, "me")
    assert lease is not None
    assert fail(database, lease, "it is broken")
    assert send(database, data, {"1": b"one"}) == (study, False)
    entry = find(database, study)
    assert entry is not None
    assert (entry.study.state, entry.study.problem, entry.attempts) == ("queued", None, 0)
    assert claim(database, "me") is not None


def test_the_same_files_sent_at_once_are_one_study(database: Database, data: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: send(database, data, {"1": b"one"}), range(8)))
    assert len({study for study, _ in sent}) == 1
    assert sum(new for _, new in sent) == 1
    assert len(list((data / STUDIES).iterdir())) == 1


def test_other_bytes_of_one_uid_are_a_new_version(database: Database, data: Path) -> None:
    ids = []
    for content in (b"one", b"two", b"three"):
        with Upload(data, Limits(free_bytes=0)) as upload:
            file = upload.file("1")
            file.write(content)
            file.close()
            ids.append(accept(database, upload, LUNGS, uid="1.2.3")[0])
    entries = [find(database, study) for study in ids]
    assert [(one.version, one.supersedes, one.superseded_by) for one in entries if one] == [
        (1, None, ids[1]),
        (2, ids[0], ids[2]),
        (3, ids[1], None),
    ]


@pytest.mark.parametrize(
    ("limits", "files", "status", "message"),
    [
        (Limits(files=2), {"1": b"", "2": b"", "3": b""}, 413, "more than 2 files"),
        (Limits(bytes=1 << 20), {"1": b"x" * (1 << 20), "2": b"y"}, 413, "more than 1 MiB"),
        (Limits(file_bytes=1 << 20), {"1": b"x" * (1 << 20) + b"y"}, 413, "a file has more than 1 MiB"),
        (Limits(), {}, 422, "no file was sent"),
        (Limits(), {"a.zip": packed({"../../etc/passwd": b"x"})}, 422, "leads out of it"),
        (Limits(), {"a.zip": packed({"/etc/passwd": b"x"})}, 422, "leads out of it"),
        (Limits(), {"a.zip": packed({"..\\x": b"x"})}, 422, "leads out of it"),
        (Limits(), {"a.zip": packed({"b.zip": packed({"1": b"x"})})}, 422, "the ZIP contains another ZIP"),
        (Limits(), {"a.zip": packed({"1": bytes(20 << 20)})}, 422, "holds a file that unpacks to 20 MiB"),
        (Limits(), {"a.zip": packed(dict.fromkeys("1234567", bytes(8 << 20)))}, 413, "unpacks to 56 MiB"),
        (Limits(file_bytes=1 << 20), {"a.zip": packed({"1": bytes(2 << 20)})}, 413, "a file has more"),
        (Limits(files=2), {"a.zip": packed(dict.fromkeys("123", b"x"))}, 413, "the ZIP contains more than 2 files"),
        (Limits(bytes=9), {"a.zip": packed({"1": b"0123456789"})}, 413, "more than 0 MiB"),
        (Limits(), {"a.zip": packed({"1": b"x"})[:-30]}, 422, "is not a ZIP file, or is damaged"),
        (Limits(), {"Doe.mhd": b"x"}, 422, "the voxels of a .mhd file are in another file"),
        (Limits(seconds=-1), {"1": b"x"}, 413, "took more than"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_nothing_behind(
    sqlite: Database, data: Path, limits: Limits, files: Mapping[str, bytes], status: int, message: str
) -> None:
    with pytest.raises(RefusedError, match=message) as caught:
        send(sqlite, data, files, limits=replace(limits, free_bytes=0))
    assert caught.value.status == status
    assert "Doe" not in str(caught.value)
    assert listed(sqlite)[1] == 0
    assert not list((data / INCOMING).iterdir())


def test_a_link_in_a_zip_is_refused(sqlite: Database, data: Path) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(RefusedError, match="contains a link"):
        send(sqlite, data, {"a.zip": buffer.getvalue()})


def test_a_disk_that_is_nearly_full_takes_no_upload_and_recovers(
    sqlite: Database, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=10)
    monkeypatch.setattr(uploading.shutil, "disk_usage", lambda path: free)
    with pytest.raises(RefusedError) as caught:
        send(sqlite, data, {"1": b"x"}, limits=Limits(free_bytes=11))
    assert caught.value.status == 507
    free.free = 11
    assert send(sqlite, data, {"1": b"x"}, limits=Limits(free_bytes=11))[1]


def test_a_disk_that_fills_up_during_an_upload_refuses_it(sqlite: Database, data: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Upload(data, Limits(free_bytes=0)) as upload:
        file = upload.file("1")
        file._handle.close()
        file._handle = open("/dev/full", "wb")  # noqa: SIM115, PTH123
        file.write(b"x")
        with pytest.raises(RefusedError) as caught:
            file.close()
    assert caught.value.status == 507
    assert not list((data / INCOMING).iterdir())


SENDER = """
import sys
from pathlib import Path
from groundglass.store.database import Database
from groundglass.store.intake import Wanted, accept
from groundglass.store.upload import Limits, Upload
data, first = Path(sys.argv[1]), int(sys.argv[2])
database = Database.of(data)
print("ready", flush=True)
for number in range(first, first + 10_000):
    with Upload(data, Limits(free_bytes=0)) as upload:
        for part in range(3):
            file = upload.file(f"{part}")
            file.write(f"{number} {part}".encode() * 1000)
            file.close()
        study, _ = accept(database, upload, Wanted("detector", "abc"))
    print(number, study, flush=True)
"""


def test_no_acknowledged_study_is_lost_when_the_process_is_killed(sqlite: Database, data: Path) -> None:
    acknowledged: dict[int, str] = {}
    for round_ in range(4):
        command = [sys.executable, "-c", SENDER, str(data), str(round_ * 10_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdout is not None
            assert sender.stdout.readline() == "ready\n"
            time.sleep(0.15 + 0.07 * round_)
            sender.send_signal(signal.SIGKILL)
            for line in sender.stdout:
                with suppress(ValueError):  # a line that was cut short
                    number, study = line.split()
                    acknowledged[int(number)] = study
        sweep(sqlite, data)
    assert len(acknowledged) >= 4
    entries, total = listed(sqlite, limit=100_000)
    ids = {entry.study.id for entry in entries}
    assert set(acknowledged.values()) <= ids
    assert total <= len(acknowledged) + 4  # one a round may have been entered and not yet acknowledged
    assert {path.name for path in (data / STUDIES).iterdir()} == ids
    assert not list((data / INCOMING).iterdir())
    for number, study in acknowledged.items():
        assert list(stored(data, study).values()) == [f"{number} {part}".encode() * 1000 for part in range(3)]
