"""The commands ``groundglass predict``, ``scan`` and ``demo``."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from groundglass.cli.options import (
    PEER,
    SCANS,
    Config,
    Detector,
    Json,
    Lungs,
    SettingOption,
    Workers,
    command,
    output,
    peer_of,
)
from groundglass.cli.output import PRINTED, STDOUT, end, give_json, say, table, wrong_usage
from groundglass.errors import count_of
from groundglass.labels import NEGATIVE

if TYPE_CHECKING:
    from groundglass.commands.predict import Prediction
    from groundglass.commands.predict_volumes import PatientAnswers
    from groundglass.detect.detector import Detector as LoadedDetector
    from groundglass.scan.dicom.series import HeaderReader
    from groundglass.scan.find import Progress
    from groundglass.scan.volume import Listing


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(
        app,
        "predict slice.png",
        "predict dicom-folder/ -o out",
        "predict patients/ -o out --no-nifti --pdf",
        "predict ct.nii.gz 'more/*.jpg' --json answers.json",
        "predict patients/ -o out --setting screening --pretest 0.1",
        "predict cohort/ -o out --workers 8",
        "predict studies.csv -o out --from https://pacs.example.org/dicom-web",
    )(predict)
    command(app, "scan dicom-folder/", "scan study.zip --json")(scan)
    command(app, "demo -o demo-report")(demo)


def predict(
    paths: Annotated[list[str], typer.Argument(help=SCANS)],
    output: Annotated[Path | None, output("Folder for tables, findings, masks and reports.")] = None,
    bundle: Detector = None,
    setting: SettingOption = None,
    pretest: Annotated[
        float | None,
        typer.Option(
            help="Pre-test probability of COVID-19, between 0 and 1; adds the post-test probability. It "
            "does not change the verdict."
        ),
    ] = None,
    heatmaps: Annotated[
        bool, typer.Option(help="Draw a heatmap of the evidence over each picture (with -o).")
    ] = True,
    lungs: Lungs = True,
    dicom: Annotated[
        bool, typer.Option(help="For DICOM volumes, write DICOM results: report, segmentation, picture.")
    ] = True,
    nifti: Annotated[bool, typer.Option(help="For volumes, write the masks as NIfTI.")] = True,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Also write each report as a PDF of two pages (with -o).")
    ] = False,
    anonymise: Annotated[
        bool, typer.Option("--anonymise", help="De-identify the DICOM results (PS3.15 basic profile).")
    ] = False,
    identities: Annotated[
        bool,
        typer.Option("--identities", help="Name patients by PatientID instead of a pseudonym."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Process all volumes again, even those already done.")
    ] = False,
    workers: Workers = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            help="Process volumes on the Ray cluster at this address, HOST:PORT, or 'auto' for this "
            "machine's.",
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=1, help="With workers: seconds after which a study is stopped and reported as failed [900]."
        ),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="With workers: MB of memory at which a study is stopped and reported as failed [3000].",
        ),
    ] = None,
    pacs: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PEER",
            help="Fetch the studies from this PACS. PATHS is then a CSV file with their StudyInstanceUIDs in the "
            f"column study. {PEER}",
        ),
    ] = None,
    config: Config = None,
    as_json: Json = None,
) -> None:
    """Estimate how likely COVID-19 is: per patient for volumes, per slice for pictures.

    Prints one line per volume or picture. With -o, also writes for each volume a folder with findings.json,
    report.html, slices.csv, NIfTI masks and DICOM results, and for all volumes patients.csv, .json and .html;
    for pictures, predictions.csv, findings.json, heatmaps and report.html. A stopped run resumes where it
    stopped. --workers and --cluster need the extra "scale".
    """
    from groundglass.detect.findings import Failure
    from groundglass.scan.find import find_series

    wrong_usage(
        (pretest is not None and not 0 < pretest < 1, "--pretest: give a probability between 0 and 1"),
        (pdf and output is None, "--pdf needs a folder to write to: add -o FOLDER"),
        (
            workers is None and cluster is None and not (time_limit is None and memory_limit is None),
            "--time-limit and --memory-limit need workers: add --workers N or --cluster ADDRESS",
        ),
        (config is not None and pacs is None, "--config needs a PACS: add --from PEER"),
    )
    crew = _crew(workers, cluster, time_limit, memory_limit, output)
    if pdf:
        from groundglass.report.pdf import need_pdf

        need_pdf()
    with ThreadPoolExecutor(1) as pool:
        # The networks load while the files are searched.
        loading = pool.submit(_load_detector, bundle, lungs, setting, pretest)
        if pacs is not None:
            from groundglass.node.cohort import listed

            listing = listed(*peer_of(pacs, config), paths)
        else:
            with _looking() as progress:
                listing = find_series(paths, progress, _header_reader(crew))
        failures = [Failure.of(error) for error in listing.failures]
        if not listing.pictures and not listing.series:
            give_json({"failures": [asdict(failure) for failure in failures]}, as_json)
            end(failures, any_read=False)
        detector = loading.result()
    slices = volumes = None
    if listing.series:
        from groundglass.commands.predict_volumes import predict_volumes
        from groundglass.commands.study import Outputs

        with _folder(output) as folder:
            volumes = predict_volumes(
                listing,
                folder,
                detector=detector,
                outputs=Outputs(
                    pdf=pdf, nifti=nifti, dicom=dicom, anonymise=anonymise, identities=identities
                ),
                fresh=fresh,
                **crew,
            )

    def show(slices: "Prediction | None") -> None:
        if give_json(_document(slices, volumes), as_json):
            _print_volumes(volumes, output)
            _print_slices(slices, output)
            say("Research use only; not a medical device.")

    if listing.pictures:
        from groundglass.commands.predict import predict as run
        from groundglass.files import address_of

        address = output and address_of(output)
        wrong_usage(
            (
                address is not None,
                f"-o {address}: pictures need a folder; only results of volumes can be written to an address",
            )
        )

        unread = () if listing.series else listing.failures
        slices = run(
            listing.pictures,
            output,
            detector=detector,
            heatmaps=heatmaps,
            pdf=pdf,
            unread=unread,
            answered=show,
        )
        if output and as_json != STDOUT:
            typer.echo(f"Report: {output / 'report.html'}")
    else:
        show(None)
    if listing.results:
        say(f"skipped: {count_of(len(listing.results), 'folder')} with results of Groundglass")
    failures = [*(volumes.failures if volumes else ()), *(slices.failures if slices else ())]
    end(failures, any_read=bool((volumes and volumes.answered) or (slices and slices.rows)))


def scan(
    paths: Annotated[list[str], typer.Argument(help=SCANS)],
    as_json: Json = None,
) -> None:
    """List the series and volumes in files and folders, and state for each whether it can be used and, if not, why.

    No networks are run, and no patients are named.
    """
    from groundglass.detect.findings import Failure
    from groundglass.scan.find import find_series

    with _looking() as progress:
        listing = find_series(paths, progress)
    if give_json(_listing(listing), as_json):
        _print_listing(listing)
    failures = [Failure.of(error) for error in listing.failures]
    end(failures, any_read=bool(listing.series or listing.pictures))


def demo(
    output: Annotated[Path, output("Folder for the report.")] = Path("demo-report"),
) -> None:
    """Run the shipped detector on the test set of covid-ct, or on phantoms, and write a report."""
    from groundglass.commands.demo import demo as run

    typer.echo(f"Report: {run(output, say)}")


def _crew(
    workers: int | None,
    cluster: str | None,
    time_limit: float | None,
    memory_limit: float | None,
    output: Path | None,
) -> dict[str, Any]:
    """The parameter of predict_volumes for workers; none for this process."""
    from groundglass.files import address_of

    address = None if output is None else address_of(output)
    if workers is None and cluster is None:
        wrong_usage(
            (address is not None, f"-o {address}: needs workers: add --workers N or --cluster ADDRESS")
        )
        return {}
    from groundglass.errors import need_extra

    need_extra("scale")
    from groundglass.scale import protect

    if cluster is None:
        protect()
    from groundglass.scale.cohort import Limits, Workers

    given = {"seconds": time_limit, "memory_mb": memory_limit}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    return {"crew": Workers(workers, cluster, limits, address)}


def _header_reader(crew: dict[str, Any]) -> "HeaderReader | None":
    if not crew:
        return None
    from groundglass.scale.files import header_reader

    return header_reader(crew["crew"])


@contextmanager
def _folder(output: Path | None) -> "Iterator[Path | None]":
    """The folder to write volumes into: for an address, a temporary one."""
    from groundglass.files import address_of

    if output is None or (address := address_of(output)) is None:
        yield output
        return
    from groundglass.scale.remote import Remote

    with Remote(address).folder() as folder:
        yield folder


def _load_detector(
    bundle: str | None, lungs: bool, setting: str | None, pretest: float | None
) -> "LoadedDetector":
    from groundglass.detect.detector import Detector

    return Detector.load(bundle, lungs=lungs, setting=setting, pretest=pretest)


@contextmanager
def _looking() -> "Iterator[Progress]":
    """A progress bar over the files that are searched."""
    from groundglass.progress import counting_to

    with counting_to("Searching files") as progress:
        yield progress


def _document(slices: "Prediction | None", volumes: "PatientAnswers | None") -> dict[str, Any]:
    document: dict[str, Any] = slices.document if slices is not None else {}
    if volumes is not None:
        patients = volumes.document()
        document = patients if not document else {**document, "volumes": patients}
    return document


def _print_volumes(volumes: "PatientAnswers | None", output: Path | None) -> None:
    if volumes is None:
        return
    rows = volumes.answered
    for row in rows[:PRINTED] if output else rows:
        typer.echo(_volume_line(row))
        if row["warnings"]:
            say(f"{row['source']}: {row['warnings']}")
    if output is None:
        return
    from groundglass.files import address_of

    place = address_of(output) or output
    if len(rows) > PRINTED:
        typer.echo(f"... and {len(rows) - PRINTED} more in {place}/patients.csv")
    if volumes.kept:
        say(f"already done: {volumes.kept} of {len(volumes.rows)} studies (--fresh repeats them)")
    if len(volumes.folders) == 1:
        typer.echo(f"Report: {place}/{next(iter(volumes.folders))}/report.html")
    typer.echo(f"All studies: {place}/patients.html")


def _volume_line(row: dict[str, Any]) -> str:
    if row["probability"] is None:
        return f"{row['verdict']:14} {row['source']}: {row['reason']}"
    from groundglass.detect.findings import RATIO_PREFIX
    from groundglass.segment.shares import TYPE_COLUMNS, types_in_words

    ratios = [(name.removeprefix(RATIO_PREFIX), row[name]) for name in row if name.startswith(RATIO_PREFIX)]
    share, lungs, lesions = (row[f"both_{name}"] for name in ("lesion_share", "lung_ml", "lesion_ml"))
    types = types_in_words({name: row[f"both_{name}"] for name in TYPE_COLUMNS if f"both_{name}" in row})
    types = types and f", {types}"
    volume = "" if lungs is None else f" ({lesions:.0f} of {lungs:.0f} ml)"
    reason = f": {row['reason']}" if row["reason"] else ""
    band = f", {row['severity']}" if row["severity"] else ""
    return (
        f"{row['verdict']:14} {_answer(row['probability'], ratios)}  lesions {share:6.1%}{volume}{types}{band}  "
        f"{row['source']}{reason}"
    )


def _answer(probability: float | None, ratios: "Iterable[tuple[str, float]]") -> str:
    """The likelihood ratios by setting, or the probability of a detector that knows no setting."""
    from groundglass.detect.setting import short

    words = ", ".join(f"{name} {short(ratio)}" for name, ratio in ratios)
    return f"LR {words}" if words else " " * 6 if probability is None else f"{probability:6.3f}"


def _print_slices(slices: "Prediction | None", output: Path | None) -> None:
    if slices is None:
        return
    from groundglass.segment.shares import types_in_words

    for row in slices.rows[:PRINTED] if output else slices.rows:
        share = "" if row.lesion_share is None else f"lesions {row.lesion_share:6.1%}"
        if types := types_in_words(row.type_shares):
            share += f" ({types})"
        reason = f": {row.reason}" if row.reason else ""
        answered = f" ({row.predicted_class})" if row.predicted_class and row.verdict == NEGATIVE else ""
        answer = _answer(row.probability, [(one.setting, one.ratio) for one in row.likelihood_ratios])
        typer.echo(f"{row.verdict:14} {answer}  {share:15} {row.path}{answered}{reason}")
        if row.warnings:
            say(f"{row.path}: {row.warnings}")
    if output and len(slices.rows) > PRINTED:
        typer.echo(f"... and {len(slices.rows) - PRINTED} more in {output / 'predictions.csv'}")


def _listing(listing: "Listing") -> dict[str, Any]:
    from groundglass.detect.findings import Failure

    return {
        "series": [
            {
                "study": number,
                "source": str(series.source),
                "kind": series.kind,
                "number": series.number,
                "modality": series.modality,
                "body_part": series.body_part,
                "kernel": series.kernel,
                "plane": series.plane,
                "slices": series.slices,
                "rows": series.rows,
                "columns": series.columns,
                "spacing_mm": series.spacing,
                "usable": series.usable,
                "problem": series.problem,
                "remedy": series.remedy,
                "warnings": list(series.warnings),
            }
            for number, series in _numbered(listing)
        ],
        "pictures": [str(path) for path in listing.pictures],
        "failures": [asdict(Failure.of(error)) for error in listing.failures],
        "ignored_files": listing.ignored,
        "result_folders": [str(path) for path in listing.results],
    }


def _numbered(listing: "Listing") -> "Iterator[tuple[int, Any]]":
    """Each series with the number of its study, from 1, because the study's own id could identify the patient."""
    studies: dict[tuple[str, str], int] = {}
    for series in listing.series:
        yield studies.setdefault(series.examination, len(studies) + 1), series


def _print_listing(listing: "Listing") -> None:
    if listing.series:
        rows = [
            (
                str(study),
                series.number or series.source.name,
                series.modality or "?",
                series.plane,
                str(series.slices),
                "?" if series.spacing is None else " x ".join(f"{mm:.3g}" for mm in series.spacing),
                series.kernel or "?",
                "yes" if series.usable else "no",
            )
            for study, series in _numbered(listing)
        ]
        header = ("study", "series", "modality", "plane", "slices", "spacing, mm", "kernel", "usable")
        table(f"{len(rows)} series", header, rows)
        for study, source in {study: series.source for study, series in _numbered(listing)}.items():
            typer.echo(f"study {study}: {source}")
        for study, series in _numbered(listing):
            refused = "; ".join(filter(None, (series.problem, series.remedy)))
            for remark in filter(None, (refused, *series.warnings)):
                typer.echo(f"study {study}, series {series.number or series.source.name}: {remark}")
    if listing.pictures:
        typer.echo(f"{count_of(len(listing.pictures), 'picture')}, each read as a single slice")
    if listing.ignored:
        say(f"skipped: {count_of(listing.ignored, 'other file')}")
