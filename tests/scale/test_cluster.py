"""A cluster of three machines; see cluster.py, which runs in a network namespace of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from groundglass.commands.predict_volumes import predict_volumes
from groundglass.commands.study import Outputs
from groundglass.detect.detector import Detector
from groundglass.phantom import make_phantom, random_lesions
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.scan.find import find_series
from groundglass.scan.studies import KEY_FILE, key_of

pytest.importorskip("ray", reason="Ray is not installed (extra scale)")

STUDIES = 12
IN_NAMESPACE = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']


def _no_namespace() -> str:
    """Why there can be no network namespace; blank if there can."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "unshare and ip (util-linux, iproute2) are not installed"
    tried = subprocess.run([*IN_NAMESPACE, "true"], capture_output=True, text=True, check=False)
    return f"unshare -n is not allowed: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.mark.timeout(280)
@pytest.mark.skipif(bool(_no_namespace()), reason=_no_namespace() or "-")
def test_a_lost_machine_and_a_killed_driver_lose_no_study(tmp_path: Path, shipped_detector: Detector) -> None:
    scans = tmp_path / "scans"
    for number in range(STUDIES):
        lesions = random_lesions(number, "covid") if number % 2 else []
        phantom = make_phantom(number, shape=(12, 128, 128), lesions=lesions)
        write_phantom_nifti(phantom, scans / f"ct{number}.nii.gz")
    alone, out = tmp_path / "alone", tmp_path / "out"
    predict_volumes(find_series([scans]), alone, detector=shipped_detector, outputs=Outputs(dicom=False))
    key_of(out)
    shutil.copy(alone / KEY_FILE, out / KEY_FILE)
    script = [sys.executable, str(Path(__file__).with_name("cluster.py")), str(scans), str(out)]
    path = os.pathsep.join(
        filter(None, (str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH")))
    )
    environment = {**os.environ, "PYTHONPATH": path, "RAY_worker_niceness": "0"}
    ran = subprocess.run(
        [*IN_NAMESPACE, *script], capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout.splitlines()[-1])
    assert report["code"] == 0, report["err"]
    assert 3 <= report["kept"] < STUDIES
    assert report["again"] == 0
    assert f"already done: {report['kept']} of {STUDIES} studies" in report["err"]
    for name in ("patients.csv", "patients.json", "patients.html"):
        assert (out / name).read_bytes() == (alone / name).read_bytes()
    assert {path.name for path in out.glob(".unfinished-*")} == set()
