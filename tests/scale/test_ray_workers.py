"""Workers on this machine: the same results as one process, and what becomes of studies that end or block them.

All these tests are in one file because they share one Ray, which takes 10 seconds to start.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="Ray is not installed (extra scale)")

from groundglass.commands.predict_volumes import predict_volumes
from groundglass.commands.segment_volumes import segment_volumes
from groundglass.commands.study import Outputs
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.errors import GroundglassError, ScanError
from groundglass.phantom import make_phantom, write_phantom
from groundglass.preprocess import Preprocessing
from groundglass.scale import protect
from groundglass.scale.cohort import Limits, Workers, _reach, connected
from groundglass.scale.files import FILES, divided, header_reader
from groundglass.scale.remote import Remote
from groundglass.scan.find import find_series
from groundglass.scan.studies import KEY_FILE, find_studies, key_of
from groundglass.scan.volume import Listing, Series, Volume

pytestmark = [pytest.mark.timeout(200), pytest.mark.usefixtures("own_ray")]
SMALL = Outputs(report=False, nifti=False, dicom=False)
HOUR = 3600.0


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    """One Ray for all these tests; its workers get the usual priority, since other tests keep the machine busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        with connected(None, 2):
            yield


@pytest.fixture(scope="module")
def divide(own_ray: None) -> Iterator[Any]:
    """Two workers for the tests of files, each with both networks."""
    with divided(2) as divide:
        yield divide


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, cohort: Path, usual_detector: Detector) -> Path:
    """The results of one process."""
    folder = tmp_path_factory.mktemp("alone")
    predict_volumes(find_series([cohort]), folder, detector=usual_detector)
    return folder


def shown(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("patients.csv", "patients.json", "patients.html")}


def test_workers_write_to_an_address_what_one_process_writes_into_a_folder(
    cohort: Path, alone: Path, usual_detector: Detector, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    key_of(out)  # the same key, so that pseudonyms and names are alike
    shutil.copy(alone / KEY_FILE, out / KEY_FILE)
    listing, remote = find_series([cohort]), Remote(f"file://{out}")
    crew = Workers(2, results=remote.address)
    with remote.folder() as folder:
        done = predict_volumes(listing, folder, detector=usual_detector, crew=crew)
    assert [len(done.answered), len(done.failures)] == [5, 1]
    assert shown(out) == shown(alone)
    files = {path.relative_to(alone) for path in alone.glob("*/*")}
    assert {path.relative_to(out) for path in out.glob("*/*")} == files
    for file in files:
        if file.suffix in (".json", ".csv", ".gz"):
            assert (out / file).read_bytes() == (alone / file).read_bytes()
    times = (out / "times.csv").read_text()
    assert times.count("\n") == 6
    with remote.folder() as folder:
        assert predict_volumes(listing, folder, detector=usual_detector, crew=crew).kept == 5
    assert shown(out) == shown(alone)
    assert (out / "times.csv").read_text() == times


def bad(series: Series, opened: Callable[[], Volume]) -> Series:
    return replace(series, open=opened)


def test_what_ends_or_blocks_a_worker_is_listed_and_the_rest_is_answered(
    cohort: Path, usual_detector: Detector, tmp_path: Path
) -> None:
    """The functions are within this one, so that they travel to the workers."""
    tries, poisoned = tmp_path / "tries", tmp_path / "poisoned"
    usable = [one for one in find_series([cohort]).series if one.usable]

    def hang() -> Volume:
        """The worker's clock runs ahead, so that the test need not wait, and no busy machine reaches the limit."""
        clock = time.monotonic
        time.monotonic = lambda: clock() + 2 * HOUR
        threading.Event().wait()
        raise AssertionError

    def eat() -> Volume:
        pieces = []
        for _ in range(50):
            pieces.append(np.ones(20_000_000))
        raise AssertionError

    def die() -> Volume:
        with tries.open("a") as handle:
            handle.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def fill() -> Volume:
        if not poisoned.exists():  # from now on, this process can write next to nothing, as on a full disk
            poisoned.touch()
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        return usable[3].load()

    opened = (hang, eat, die, fill)
    listing = Listing((*map(bad, usable, opened), usable[4]))
    crew = Workers(2, limits=Limits(seconds=HOUR, memory_mb=1500))
    done = predict_volumes(listing, tmp_path / "out", detector=usual_detector, outputs=SMALL, crew=crew)
    assert [row["problem"] for row in done.rows] == [
        "took more than 3600 seconds, so it was stopped",
        "needs more than 1500 MB of memory, so it was stopped",
        "its worker ended 2 times without an answer, as happens when memory runs out",
        "",
        "",
    ]
    assert tries.read_text() == "xx"
    assert poisoned.exists()
    assert done.failures[0].remedy == "allow more with --time-limit"


def test_where_no_worker_can_write_the_job_ends(
    cohort: Path, usual_detector: Detector, tmp_path: Path
) -> None:
    usable = [one for one in find_series([cohort]).series if one.usable][:2]

    def full(series: Series) -> Series:
        def fill() -> Volume:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            return series.load()

        return bad(series, fill)

    listing = Listing(tuple(map(full, usable)))
    with pytest.raises(GroundglassError, match="cannot be written"):
        predict_volumes(listing, tmp_path, detector=usual_detector, outputs=SMALL, crew=Workers(2))
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_cannot_start_is_refused(cohort: Path, usual_detector: Detector, tmp_path: Path) -> None:
    listing = find_series([cohort])
    with pytest.raises(GroundglassError, match="lower --memory-limit"):
        predict_volumes(
            listing, tmp_path, detector=usual_detector, crew=Workers(2, limits=Limits(memory_mb=1e7))
        )
    with pytest.raises(ConnectionError):  # which connected reports; here, Ray is connected already
        _reach("127.0.0.1:1")
    with pytest.raises(GroundglassError, match="nowhere://x: cannot be written"):
        Remote("nowhere://x")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More slices than two workers take at once, one that is not a chest CT, and one that is missing."""
    folder = tmp_path_factory.mktemp("slices")
    slices = write_phantom(make_phantom(1, shape=(2 * FILES, 96, 96)), folder)
    Image.linear_gradient("L").save(folder / "blob.png")
    return [*slices[:FILES], folder / "missing.png", *slices[FILES:], folder / "blob.png"]


def test_workers_answer_files_as_one_process_does(
    divide: Any, usual_detector: Detector, files: list[Path]
) -> None:
    segmenter = usual_detector.segmenter
    assert segmenter is not None
    findings = list(divide(usual_detector).predict_files(files))
    masks = list(divide(segmenter).segment_files(files))
    assert [path for path, _ in findings] == files
    for (_, one), (_, other) in zip(findings, usual_detector.predict_files(files), strict=True):
        assert isinstance(one, ScanError) == isinstance(other, ScanError)
        if isinstance(one, SliceFinding) and isinstance(other, SliceFinding):
            assert replace(one, view=None) == replace(other, view=None)
    for (path, one), (_, other) in zip(masks, segmenter.segment_files(files), strict=True):
        if isinstance(other, ScanError):
            assert (path.name, str(one)) == ("missing.png", str(other))
            continue
        np.testing.assert_array_equal(one[1].lungs, other[1].lungs)
        np.testing.assert_array_equal(one[0].pixels, other[0].pixels)


def test_workers_segment_volumes_as_one_process_does(
    divide: Any, cohort: Path, usual_detector: Detector, tmp_path: Path
) -> None:
    segmenter = usual_detector.segmenter
    assert segmenter is not None
    studies = find_studies(find_series([cohort]), b"key")
    one, two = tmp_path / "one", tmp_path / "two"
    alone = segment_volumes(studies, one, segmenter=segmenter)
    assert segment_volumes(studies, two, segmenter=divide(segmenter)) == alone
    assert [len(part) for part in alone] == [5, 1]
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 5 * 4 + 1
    assert {path.relative_to(two) for path in two.rglob("*") if path.is_file()} == set(files)
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)


def test_an_error_in_a_worker_is_the_error_of_the_command(divide: Any, files: list[Path]) -> None:
    def broken(slices: np.ndarray) -> np.ndarray:
        return np.full(len(slices), np.nan)

    detector = Detector.of_function(broken, Preprocessing(size=(32, 32), channels=1), lungs=False)
    with pytest.raises(GroundglassError) as caught:
        list(divide(detector).predict_files(files[:2]))
    with pytest.raises(GroundglassError) as alone:
        list(detector.predict_files(files[:2]))
    assert str(caught.value) == str(alone.value)


def test_workers_read_headers_as_one_process_does(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cohort / "study0" / "broken.dcm").write_bytes(b"no DICOM")
    monkeypatch.setattr("groundglass.scale.files.MANY", 3)
    monkeypatch.setattr("groundglass.scale.files.HEADERS", 4)
    monkeypatch.chdir(cohort)
    listed, expected = find_series(["."], read=header_reader(Workers(2))), find_series(["."])
    facts = ("source", "slices", "spacing", "problem", "warnings", "number", "patient", "study", "content")
    for one, other in zip(listed.series, expected.series, strict=True):
        assert [getattr(one, fact) for fact in facts] == [getattr(other, fact) for fact in facts]
        if one.usable:
            np.testing.assert_array_equal(one.load().read(0), other.load().read(0))
    assert list(map(str, listed.failures)) == list(map(str, expected.failures))
    (cohort / "study0" / "broken.dcm").unlink()


def test_a_ray_of_ones_own_has_a_token() -> None:
    code = "import os; from groundglass.scale import protect; protect(); print(len(os.environ['RAY_AUTH_TOKEN']))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "64\n"
    protect()  # Ray was imported without a token, so it is too late for one
    assert "RAY_AUTH_TOKEN" not in os.environ
