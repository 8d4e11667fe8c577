"""Workers on this machine: the same results as one process, and what becomes of studies that end or block them."""

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed (extra scale)")

from groundglass.commands.predict_volumes import predict_volumes
from groundglass.commands.study import Outputs
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.scale.cohort import Limits, Workers, _reach
from groundglass.scale.remote import Remote
from groundglass.scan.find import find_series
from groundglass.scan.studies import KEY_FILE, key_of
from groundglass.scan.volume import Listing, Series, Volume

pytestmark = [pytest.mark.timeout(200), pytest.mark.usefixtures("own_ray")]
SMALL = Outputs(report=False, nifti=False, dicom=False)


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
        time.sleep(1000)
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
    crew = Workers(2, limits=Limits(seconds=20, memory_mb=1500))
    done = predict_volumes(listing, tmp_path / "out", detector=usual_detector, outputs=SMALL, crew=crew)
    assert [row["problem"] for row in done.rows] == [
        "took more than 20 seconds, so it was stopped",
        "needs more than 1500 MB of memory, so it was stopped",
        "its worker ended 2 times without an answer, as when memory runs out",
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
