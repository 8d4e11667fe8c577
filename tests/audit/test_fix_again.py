"""A fixed manifest is written, read and audited again."""

import shutil

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from series import material_of, pictures_of

from groundglass.audit import data as checks_of_data
from groundglass.audit.check import checks_in, run_checks
from groundglass.audit.fix import fix
from groundglass.data.manifest import read_manifest, write_manifest

MENDED = {"GG101", "GG103", "GG104", "GG105", "GG106"}


def _with_faults(folder):
    """Pictures of twelve patients, each from a paper: copies, changed copies, a divided patient and paper."""
    grey = pictures_of([4] * 12)
    paths = [folder / f"paper-20200{place // 4}-p1-{place}.png" for place in range(len(grey))]
    for path, picture in zip(paths, grey, strict=True):
        Image.fromarray(picture).save(path)
    rows = pd.DataFrame(
        {
            "note": "kept",
            "path": list(map(str, paths)),
            "label": ["covid"] * 24 + ["not covid"] * 24,
            "patient": [f"p{place // 4}" if place < 36 else "" for place in range(48)],
            "split": ["train"] * 9 + ["val"] * 3 + ["train"] * 30 + ["test"] * 6,
            "source": "made",
        }
    )
    shutil.copy(paths[0], folder / "copy.png")
    Image.fromarray(cv2.convertScaleAbs(grey[25], alpha=0.9, beta=5)).save(folder / "opposite.png")
    Image.fromarray(cv2.convertScaleAbs(grey[2], alpha=0.9, beta=5)).save(folder / "brighter.png")
    added = pd.DataFrame(
        {
            "note": "added",
            "path": [str(folder / f"{name}.png") for name in ("copy", "opposite", "brighter")],
            "label": "covid",
            "patient": "",
            "split": ["train", "val", "test"],
            "source": "made",
        }
    )
    return pd.concat([rows, added], ignore_index=True)


def _seen(manifest):
    grey = np.stack([np.asarray(Image.open(path)) for path in manifest["path"]])
    return material_of(grey, **{column: manifest[column].to_numpy() for column in manifest})


def test_a_new_audit_of_what_was_written_finds_nothing(tmp_path):
    faulty = _seen(_with_faults(tmp_path))
    checks = [check for check in checks_in(checks_of_data) if check.code in MENDED]
    assert len(checks) == len(MENDED)
    before = {one.check.code: one.status for one in run_checks(checks, faulty)}
    assert set(before.values()) == {"found"}
    fixed, changes = fix(faulty)
    write_manifest(fixed, tmp_path / "fixed.csv")
    again = read_manifest(tmp_path / "fixed.csv")
    pd.testing.assert_frame_equal(again[list(fixed)], fixed)
    assert {(one.what, one.code) for one in changes} >= {
        ("removed", "GG101"),
        ("removed", "GG103"),
        ("moved", "GG104"),
        ("moved", "GG105"),
        ("moved", "GG106"),
    }
    after = {one.check.code: one.status for one in run_checks(checks, _seen(again))}
    assert set(after.values()) == {"passed"}
