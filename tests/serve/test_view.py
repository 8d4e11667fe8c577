"""What the page's viewer gets, the search, and the static files, in process."""

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from serving import Served, write_stored

from groundglass.phantom import Phantom
from groundglass.phantom.phantom import phantom_geometry
from groundglass.segment.shares import CONSOLIDATION, LESION
from groundglass.serve.page import page_files
from groundglass.serve.view import RUN_BITS


def view(served: Served, study: str, name: str, **headers: str) -> Any:
    answer = served.client.get(f"/api/v1/studies/{study}/view/{name}", headers={**served.bearer, **headers})
    assert answer.is_success, answer.text
    return answer


def slices_of(served: Served, study: str, index: dict[str, Any]) -> NDArray[np.int16]:
    return np.frombuffer(view(served, study, "slices").content, "<i2").reshape(index["shape"])


def labels_of(served: Served, study: str, index: dict[str, Any]) -> NDArray[np.uint8]:
    runs = np.frombuffer(view(served, study, "masks").content, "<u4")
    labels = np.repeat((runs >> RUN_BITS).astype(np.uint8), runs & ((1 << int(RUN_BITS)) - 1))
    assert sum(index["runs"]) == len(runs)
    return labels.reshape(index["shape"])


@pytest.mark.parametrize("turned", ["not", "columns", "rows", "slices"])
def test_a_viewer_gets_each_voxel_where_it_lies_however_it_is_stored(
    served: Served, marked: Phantom, tmp_path: Path, turned: str
) -> None:
    study = served.answered(served.send(*write_stored(marked, tmp_path / "ct", turned)))
    index = view(served, study["id"], "view.json").json()
    assert study["viewable"]
    assert index["shape"] == list(marked.scan.pixels.shape)
    assert index["oriented"]
    slices = slices_of(served, study["id"], index)
    assert (slices == np.rint(marked.scan.pixels)).all()
    geometry, truth = index["geometry"], phantom_geometry(marked)
    assert np.allclose(geometry["positions"], truth.positions, atol=1e-3)
    assert np.allclose(geometry["column_step"], truth.column_step)
    assert geometry["column_step"][0] > 0  # columns run from the patient's right to the left
    labels = labels_of(served, study["id"], index)
    right, left = study["findings"]["right"], study["findings"]["left"]
    assert right["lesion_share"] > 0.015 > 5 * left["lesion_share"]
    columns = np.nonzero(labels & LESION)[2]
    assert np.median(columns) < slices.shape[2] / 2
    lungs = nib.load(served.server.data / "studies" / study["id"] / "results" / "lungs.nii.gz")
    stored = np.asarray(nib.as_closest_canonical(lungs).dataobj)[::-1, ::-1].T
    assert (labels & 3 == stored).all()


def test_slices_are_sent_in_parts_and_heatmaps_smaller(served: Served, chest: list[Path]) -> None:
    study = served.answered(served.send(*chest))["id"]
    index = view(served, study, "view.json").json()
    whole = view(served, study, "slices").content
    size = 2 * index["shape"][1] * index["shape"][2]
    part = view(served, study, "slices", Range=f"bytes={size}-{3 * size - 1}")
    assert part.status_code == 206
    assert part.content == whole[size : 3 * size]
    heat = index["heat"]
    maps = np.frombuffer(view(served, study, "heat").content, np.uint8).reshape(-1, *heat["shape"])
    assert max(heat["shape"]) == 128
    assert len(maps) == len(heat["slices"]) > 0
    assert maps.reshape(len(maps), -1).max(axis=1).all()
    labels = labels_of(served, study, index)
    assert (labels & LESION).any()
    assert not (labels & CONSOLIDATION)[labels & LESION == 0].any()
    folder = served.server.data / "studies" / study / "view"
    assert len(gzip.decompress((folder / "masks").read_bytes())) == 4 * sum(index["runs"])
    for name in ("nothing", "..%2fresults%2ffindings.json", "%2e%2e%2fresults"):
        answer = served.client.get(f"/api/v1/studies/{study}/view/{name}", headers=served.bearer)
        assert answer.status_code == 404, name
    answer = served.client.get(f"/api/v1/studies/{study}/view/{'x' * 300}", headers=served.bearer)
    assert answer.status_code == 422
    assert "view.json" not in json.dumps(served.get(f"/studies/{study}")["results"])


def test_pictures_are_shown_as_they_were_read(served: Served, tmp_path: Path) -> None:
    grey = np.random.default_rng(8).integers(0, 255, (60, 80), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "one.png")
    study = served.answered(served.send(tmp_path / "one.png", ("notes.png", b"\x89PNG\r\n\x1a\nbroken")))[
        "id"
    ]
    assert view(served, study, "view.json").json() == {"kind": "pictures", "pictures": ["00001.png.png"]}
    shown = view(served, study, "00001.png.png")
    assert shown.headers["content-type"] == "image/png"
    (tmp_path / "shown.png").write_bytes(shown.content)
    assert (np.asarray(Image.open(tmp_path / "shown.png")) == grey).all()


def test_what_failed_cannot_be_viewed(served: Served) -> None:
    study = served.answered(served.send(("a.dcm", b"not DICOM at all")))
    assert (study["state"], study["viewable"]) == ("failed", False)
    answer = served.client.get(f"/api/v1/studies/{study['id']}/view/view.json", headers=served.bearer)
    assert answer.status_code == 404


def test_studies_are_searched_by_patient_without_a_name_in_an_address(
    served: Served, chest: list[Path]
) -> None:
    study = served.answered(served.send(*chest))["id"]

    def found(**body: object) -> list[str]:
        answer = served.client.post("/api/v1/search", json=body, headers=served.bearer)
        assert answer.status_code == 200, answer.text
        return [one["id"] for one in answer.json()["studies"]]

    assert study in found()
    for text in ("canaryname", "ZEBULON canaryid", "19020304", study):
        assert found(text=text) == [study]
    assert found(text="canary\0name") == [study]
    for text in ("canaryname nobody", "%", "_"):
        assert study not in found(text=text)
    assert study not in found(text="canaryname", state="failed")
    assert served.client.post("/api/v1/search", json={"limit": 0}, headers=served.bearer).status_code == 422


def test_the_page_is_static_and_loads_nothing_from_elsewhere(served: Served) -> None:
    page = served.client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-cache"
    assert "http" not in page.text.replace("http-equiv", "")
    files = page_files()
    for name, content in files.items():
        if name == "index.html":
            continue
        assert b"http://" not in content.replace(b"http://www.w3.org/", b"")
        assert b"https://" not in content
        place = page.text.split("app.js")[0].rpartition('"')[2]
        answer = served.client.get(place + name)
        assert answer.content == content
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        assert served.client.get(place + name, headers={"Accept-Encoding": "identity"}).content == content
    listed = {line.partition("}/")[2].partition('"')[0] for line in files["index.html"].decode().splitlines()}
    assert {name for name in files if name.endswith(".js")} <= listed  # all are loaded at once
    assert served.client.get("/page/0/app.js").status_code == 404
