"""Directory: the files that a DICOMDIR names (PS3.3 F, PS3.10 8.6)."""

from pathlib import Path

from groundglass.errors import ScanError
from groundglass.scan.dicom import values
from groundglass.scan.dicom.headers import quiet, read_dataset_of
from groundglass.scan.members import found


@quiet()
def referenced_files(path: Path) -> tuple[list[Path], int]:
    """The files that the directory's records name.

    Returns
    -------
    Those that are there, and how many are not.

    Raises
    ------
    ScanError
        If it cannot be read, or names no file.
    """
    records = values.items(read_dataset_of(found(path)), "DirectoryRecordSequence")
    names = [name for record in records if (name := values.texts(record, "ReferencedFileID"))]
    if not names:
        raise ScanError(path, "this DICOMDIR names no file", "name the folder of the DICOM files instead")
    places = [_place(path.parent, name) for name in names]
    files = list(dict.fromkeys(place for place in places if place is not None))
    return files, places.count(None)


def _place(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Where a file is; some systems show a disc's names in small letters. None where it is not, or lies outside."""
    if any(name in ("", ".", "..") or "/" in name for name in names):
        return None
    for spelled in (names, tuple(name.lower() for name in names)):
        place = folder.joinpath(*spelled)
        if place.is_file():
            return place
    return None
