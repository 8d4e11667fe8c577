"""The commands ``groundglass pacs ...``; heavy imports are inside the functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass.cli.options import PEER, Config, Json, command, output, peer_of
from groundglass.cli.output import end, give_json, say, table
from groundglass.errors import GroundglassError, ScanError, count_of, need_extra

if TYPE_CHECKING:
    from pydicom import Dataset

    from groundglass.scan.volume import Member

app = typer.Typer(
    help="Communicate with a PACS: echo, find, fetch, send.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
BATCH = 50
"""Number of files sent in one association."""
PeerName = Annotated[str, typer.Argument(help=PEER)]
Title = Annotated[
    str | None, typer.Option("--ae-title", help="The AE title of this side (default: GROUNDGLASS).")
]


def register(main: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "pacs echo ORTHANC@127.0.0.1:4242")(echo)
    command(app, "pacs find pacs --config serve.yaml --date 20261130", "pacs find pacs --study 1.2.3")(find)
    command(app, "pacs fetch ORTHANC@127.0.0.1:4242 1.2.3 -o ct")(fetch)
    command(app, "pacs send https://pacs.example.org/dicom-web results/*/sr.dcm")(send)
    command(app, "pacs conformance > conformance.md")(conformance)
    main.add_typer(app, name="pacs")


def echo(peer: PeerName, config: Config = None, ae_title: Title = None) -> None:
    """Check that a PACS answers (C-ECHO, or a search for one study)."""
    settings, to = peer_of(peer, config, ae_title)
    from groundglass.node.peers import client_of

    client_of(settings, to).echo()
    typer.echo(f"{peer} answers")


def find(
    peer: PeerName,
    patient: Annotated[str, typer.Option("--patient", help="PatientID; * stands for any text.")] = "",
    name: Annotated[str, typer.Option("--name", help="PatientName; * stands for any text.")] = "",
    date: Annotated[str, typer.Option("--date", help="20261130, or a range such as 20261101-20261130.")] = "",
    modality: Annotated[str, typer.Option("--modality", help="The modality of any of its series.")] = "CT",
    study: Annotated[str, typer.Option("--study", help="List the series of the study with this UID.")] = "",
    config: Config = None,
    ae_title: Title = None,
    json: Json = None,
) -> None:
    """Search a PACS for studies, or for the series of a study. The list contains patients' names."""
    settings, to = peer_of(peer, config, ae_title)
    from groundglass.node.peers import SERIES_KEYS, STUDY_KEYS, client_of

    keys = dict.fromkeys(SERIES_KEYS if study else STUDY_KEYS, "")
    if study:
        keys["StudyInstanceUID"] = study
    else:
        given = {"PatientID": patient, "PatientName": name, "StudyDate": date, "ModalitiesInStudy": modality}
        keys |= given
    found = client_of(settings, to).find("SERIES" if study else "STUDY", keys)
    rows = [{key: _text(one, key) for key in keys} for one in found]
    if give_json(rows, json):
        shown = [key for key in keys if any(row[key] for row in rows)]
        what = count_of(len(rows), *(("series", "series") if study else ("study", "studies")))
        table(what, tuple(shown), [tuple(row[key] for key in shown) for row in rows])


def fetch(
    peer: PeerName,
    study: Annotated[str, typer.Argument(help="StudyInstanceUID.")],
    series: Annotated[str | None, typer.Option("--series", help="SeriesInstanceUID, for one series.")] = None,
    output: Annotated[Path, output("The folder to write; it must not exist yet.")] = Path("fetched"),
    config: Config = None,
    ae_title: Title = None,
) -> None:
    """Fetch the CT images of a study as the PACS stores them, with C-GET, C-MOVE or WADO-RS."""
    settings, to = peer_of(peer, config, ae_title)
    from groundglass.node.inbox import Inbox
    from groundglass.node.peers import client_of
    from groundglass.node.receive import Receiver

    if output.exists():
        raise GroundglassError(f"{output}: exists already; name a new folder with -o")
    receiver = Receiver(settings, output, lambda: None) if to.by == "move" else None
    if receiver is not None:
        receiver.start()
    try:
        client_of(settings, to).fetch(study, series, Inbox(output, to.name))
    finally:
        if receiver is not None:
            receiver.stop()
    came = sorted(output.glob("*/*.dcm"))
    for number, path in enumerate(came, start=1):
        path.rename(output / f"{number:05d}.dcm")
    for folder in {path.parent for path in came}:
        folder.rmdir()
    if not came:
        raise GroundglassError(f"{peer}: sent no CT of this study; `groundglass pacs find` lists what it has")
    typer.echo(f"{count_of(len(came), 'file')} in {output}")


def send(
    peer: PeerName,
    files: Annotated[
        list[Path],
        typer.Argument(help="DICOM files, ZIPs or folders of them, whatever the files are called."),
    ],
    config: Config = None,
    ae_title: Title = None,
) -> None:
    """Send DICOM files to a PACS; what is already there counts as sent."""
    settings, to = peer_of(peer, config, ae_title)
    from groundglass.detect.findings import Failure
    from groundglass.node.peers import client_of
    from groundglass.scan.find import find_dicom

    client, sent = client_of(settings, to), 0
    found, failures, others = find_dicom(files)
    for start in range(0, len(found), BATCH):
        objects = []
        for member in found[start : start + BATCH]:
            try:
                objects.append(_read(member))
            except ScanError as error:
                failures.append(error)
        if objects:
            client.store(objects)
            sent += len(objects)
    if not (sent or failures):
        raise GroundglassError(f"{', '.join(map(str, files))}: no DICOM file found")
    typer.echo(f"{count_of(sent, 'file')} sent to {peer}")
    if others:
        say(f"skipped: {count_of(others, 'other file')}")
    end([Failure.of(error) for error in failures], any_read=bool(sent))


def conformance() -> None:
    """Print the DICOM conformance statement."""
    need_extra("pacs")
    from groundglass.node.conformance import statement

    typer.echo(statement(), nl=False)


def _text(one: "Dataset", key: str) -> str:
    from pydicom.multival import MultiValue

    value = one.get(key, "")
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _read(member: "Member") -> "Dataset":
    """An object to send. If its file has no meta information (PS3.10 7.1), it is added.

    Raises
    ------
    ScanError
        If the file cannot be read, or does not say what it holds.
    """
    from pydicom import dcmread, uid

    from groundglass.scan.members import open_member

    try:
        with open_member(member) as stream:
            found = dcmread(stream, force=True)
        if "TransferSyntaxUID" not in found.file_meta:
            implicit, little = found.original_encoding
            explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
            found.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
            found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
            found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
        found.preamble = found.preamble or b"\0" * 128
        if not (found.SOPClassUID and found.SOPInstanceUID):
            raise ValueError("no UID")
    except ScanError:
        raise
    except Exception as error:  # pydicom raises almost anything on damaged bytes
        raise ScanError(str(member), "its DICOM header cannot be read", "get a new copy") from error
    return found
