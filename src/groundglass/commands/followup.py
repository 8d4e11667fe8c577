"""``groundglass report followup``: compare two results of one patient."""

import json
from pathlib import Path
from typing import Any

from groundglass.commands.study import FINDINGS
from groundglass.errors import GroundglassError
from groundglass.files import write_json
from groundglass.report.followup import FollowUp, follow_up
from groundglass.report.page import write_report
from groundglass.report.pdf import write_pdf
from groundglass.scan.studies import KEY_FILE

STEM = "followup"
NOT_CHECKED = (
    "It could not be checked whether both volumes are of the same patient: the files do not state it, or "
    "the results are in different folders, in which patients have different pseudonyms."
)


def write_follow_up(
    before: Path, after: Path, folder: Path, *, any_patient: bool = False, pdf: bool = False
) -> FollowUp:
    """Compare two results, and write ``followup.json``, ``followup.html`` and, if asked, ``followup.pdf``.

    Parameters
    ----------
    before, after
        The folder of each study's results, or its ``findings.json``.
    folder
        Where to write.
    any_patient
        Also compare studies of different patients.
    pdf
        Also write the PDF.

    Raises
    ------
    GroundglassError
        If one of them does not hold the findings of a chest CT volume, they are of different patients, or a file
        cannot be written.
    """
    files = [path / FINDINGS if path.is_dir() else path for path in (before, after)]
    one, other = map(_read, files)
    warnings = _patients(files, one["patient"], other["patient"], any_patient)
    compared = follow_up(one, other, warnings)
    write_json(folder / f"{STEM}.json", compared.to_dict())
    report = compared.report()
    write_report(report, folder / f"{STEM}.html")
    if pdf:
        write_pdf(report, folder / f"{STEM}.pdf")
    return compared


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GroundglassError(
            f"{path}: does not contain findings; give the folder of a study's results, as written by "
            "predict -o"
        ) from error
    if not isinstance(found, dict) or not {"bundle", "slices"} <= found.keys():
        raise GroundglassError(
            f"{path}: does not contain the findings of a single study; give the folder of a study"
        )
    return {"patient": "", **found}


def _patients(files: list[Path], one: str, other: str, any_patient: bool) -> tuple[str, ...]:
    """Warnings about the patients, whose pseudonyms can be compared if they were derived from the same key."""
    if one and one == other:
        return ()
    keys = [file.parent.parent / KEY_FILE for file in files]
    known = (
        one and other and all(key.is_file() for key in keys) and keys[0].read_bytes() == keys[1].read_bytes()
    )
    if not known:
        return (NOT_CHECKED,)
    if not any_patient:
        raise GroundglassError(
            f"{files[0].parent} and {files[1].parent}: are of different patients; "
            "--any-patient compares them anyway"
        )
    return ("The two volumes are of different patients.",)
