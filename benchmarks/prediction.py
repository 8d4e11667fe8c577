"""Speed of prediction: a folder of slices, start-up for one slice, and the engines that could run the graph.

Everything compared runs in the same call, in turn. See benchmarks/README.md.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common import Cost, Row, in_turn, machine, parser, prepare_slices, run_command, show, spread, timed
from engines import BATCH, OURS, TORCH, Answer, Floats, all_engines, torch_twin
from groundglass.commands.predict import predict
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import BundleError
from groundglass.scan.read import read_scan

GROUNDGLASS = Path(sys.executable).with_name("groundglass")
ENGINE_SLICES = 256
WHOLE_SLICES = "covid-ct-lite0"
"""The shipped detector whose network takes a whole slice: engines can be compared without a segmenter."""


def commands(tasks: dict[str, Sequence[str | Path]], repetitions: int) -> dict[str, list[Cost]]:
    return in_turn({name: partial(run_command, command) for name, command in tasks.items()}, repetitions)


def start_up(one: Path, choice: list[str], out: Path, repetitions: int) -> list[Row]:
    """Rows: cost from process start to exit."""
    whole: list[str | Path] = [GROUNDGLASS, "predict", one, *choice]
    tasks: dict[str, Sequence[str | Path]] = {
        "predict, 1 PNG": whole,
        "predict, 1 PNG, -o (table, heatmap, report)": [*whole, "-o", out],
        "bare": [sys.executable, "-c", "pass"],
        "import": [sys.executable, "-c", "import groundglass"],
    }
    costs = commands(tasks, repetitions)
    extra = [
        Cost(after.wall - before.wall, after.cpu - before.cpu)
        for before, after in zip(costs.pop("bare"), costs.pop("import"), strict=True)
    ]
    costs["import groundglass, beyond bare Python"] = extra
    targets = {"predict, 1 PNG": "1.5", "import groundglass, beyond bare Python": "0.2"}
    return [
        (
            name,
            spread([c.cpu for c in some], ".2f"),
            targets.get(name, ""),
            spread([c.wall for c in some], ".2f"),
        )
        for name, some in costs.items()
    ]


def folder_rows(
    files: list[Path], bundle: Bundle, choice: list[str], out: Path, repetitions: int
) -> list[Row]:
    """Rows: slices per second by the whole command, and by a detector that is loaded and warm."""
    whole: list[str | Path] = [GROUNDGLASS, "predict", files[0].parents[1], *choice]
    costs = commands(
        {
            "command, printing only": whole,
            "command, -o --no-heatmaps": [*whole, "-o", out, "--no-heatmaps"],
            "command, -o with heatmaps": [*whole, "-o", out],
        },
        repetitions,
    )
    detector = Detector(bundle)
    warm = in_turn(
        {
            "warm, detection alone": timed(lambda: list(detector.predict_files(files))),
            "warm, table and report": timed(lambda: predict(files, out, detector=detector, heatmaps=False)),
            "warm, table, report, heatmaps": timed(lambda: predict(files, out, detector=detector)),
        },
        repetitions,
    )
    rows: list[Row] = [
        (
            name,
            spread([len(files) / c.wall for c in some]),
            spread([c.wall for c in some], ".2f"),
            spread([c.cpu for c in some], ".2f"),
        )
        for name, some in costs.items()
    ]
    for name, seconds in warm.items():
        rows.append((name, spread([len(files) / s for s in seconds]), spread(seconds, ".2f"), ""))
    return rows


def engine_rows(
    bundle: Bundle, images: Floats, engines: dict[str, Answer], repetitions: int, *, same_weights: bool
) -> list[Row]:
    """Rows: slices per second, the ratio to Groundglass' engine pair by pair, and how the answers differ."""
    answers = {name: run(images) for name, run in engines.items()}
    reference = TORCH if TORCH in engines and same_weights else OURS
    expected = [bundle.facts.answer(float(logit)) for logit in answers[reference]]
    print(f"Differences are from: {reference}")
    tasks = {name: timed(partial(run, images)) for name, run in engines.items()}
    seconds = in_turn(tasks, repetitions)
    rows: list[Row] = []
    for name, times in seconds.items():
        differences = ("other weights", "other weights")
        if same_weights or not name.startswith("torch"):
            given = [bundle.facts.answer(float(logit)) for logit in answers[name]]
            pairs = list(zip(given, expected, strict=True))
            largest = max(abs(a.probability - b.probability) for a, b in pairs)
            differences = (f"{largest:.1e}", str(sum(a.verdict != b.verdict for a, b in pairs)))
        ratio = statistics.median(b / a for a, b in zip(times, seconds[OURS], strict=True))
        rows.append((name, spread([len(images) / t for t in times]), f"{ratio:.2f}", *differences))
    return rows


def inputs(bundle: Bundle, files: list[Path]) -> Floats:
    """Model inputs of slices, in complete batches."""
    count = max(BATCH, len(files) // BATCH * BATCH)
    chosen = [files[number % len(files)] for number in range(count)]
    return np.stack([bundle.facts.preprocessing(read_scan(file)) for file in chosen])


def open_bundle(args: argparse.Namespace) -> tuple[Bundle, list[str], Any | None]:
    """The bundle, the command's option for it, and the network in torch."""
    named = args.bundle or (str(args.run / "bundle") if args.run else WHOLE_SLICES)
    try:
        bundle = Bundle.load(named)
    except BundleError as error:
        sys.exit(str(error))
    return bundle, ["--bundle", named], torch_twin(bundle, args.run)


def main() -> None:
    options = parser(__doc__ or "", slices=500, repetitions=7)
    options.add_argument("--bundle", help=f"a bundle's name, folder or zip [{WHOLE_SLICES}]")
    options.add_argument(
        "--run",
        type=Path,
        help="the folder of the run that the bundle was exported from: torch with its weights",
    )
    args = options.parse_args()
    print(*machine(), sep="\n")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        bundle, choice, model = open_bundle(args)
        files, about = prepare_slices(args.data, args.slices, work / "slices")
        png = next(file for file in files if file.suffix == ".png")
        print(f"{about}; bundle {bundle.facts.name}; {args.repetitions} repetitions of each, in turn")
        starting = start_up(png, choice, work / "one", args.repetitions)
        folder = folder_rows(files, bundle, choice, work / "out", args.repetitions)
        images = inputs(bundle, files[:: max(1, len(files) // ENGINE_SLICES)][:ENGINE_SLICES])
        engines = all_engines(bundle, model)
        compared = engine_rows(bundle, images, engines, args.repetitions, same_weights=args.run is not None)
    show(
        "Start-up: median (least to largest)",
        ("process start to exit", "user + system, s", "target, s", "wall, s"),
        starting,
        markdown=args.markdown,
    )
    show(
        f"A folder of {len(files)} slices: median (least to largest)",
        ("folder", "slices/s", "wall, s", "user + system, s"),
        folder,
        markdown=args.markdown,
    )
    show(
        f"Engines on {len(images)} prepared slices: median (least to largest)",
        ("engine", "slices/s", "ratio", "largest difference in probability", "changed verdicts"),
        compared,
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
