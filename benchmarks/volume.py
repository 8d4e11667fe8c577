"""Speed and memory of `groundglass predict` on a CT series, from DICOM files to all results, compared with
lungmask.

For lungmask only the network of its default model R231 is measured (see segmenters.py), on a sample of the
series' slices, scaled to all of them: its start-up, reading, post-processing and files are not counted, and
it finds no lesions and gives no answer. Everything compared runs in turn. See benchmarks/README.md.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from common import Cost, Row, Side, in_turn, machine, run_command, show, spread

GROUNDGLASS = Path(sys.executable).with_name("groundglass")
SIDE_SCRIPT = Path(__file__).with_name("volume_side.py")
RICORD = Path("dicom") / "MIDRC-RICORD-1A-419639-001012"
"""Below the folder that ``GROUNDGLASS_MIRROR`` names: a series of 124 slices, JPEG lossless."""
PHANTOM_SLICES = 124
SAMPLE = 20
"""One of lungmask's batches."""
LARGE_RUNS = 2
R231 = "lungmask R231, network alone (torch, 32 bits)"
COLUMNS = ("what runs", "wall, s", "user + system, s", "slices/s", "peak memory, GB")
GB = 1e9


def write_phantom(folder: Path, slices: int) -> Path:
    run_command([sys.executable, SIDE_SCRIPT, "write", folder, str(slices)])
    return folder


def choose_series(named: Path | None, work: Path) -> tuple[Path, str]:
    """The series to measure, and its description."""
    if named is not None:
        return named, named.name
    ricord = Path(os.environ.get("GROUNDGLASS_MIRROR", "")) / RICORD
    if "GROUNDGLASS_MIRROR" in os.environ and ricord.is_dir():
        return ricord, ricord.name
    return write_phantom(work / "phantom", PHANTOM_SLICES), "a phantom, JPEG lossless"


def all_outputs(series: Path, out: Path) -> list[str | Path]:
    return [GROUNDGLASS, "predict", series, "-o", out, "--fresh"]


def lungmask_cost(side: Side) -> Cost:
    """Cost of lungmask's network for the whole series, from the next run over the sample."""
    side.epoch()
    taken, whole = side.epochs[-1], side.facts["slices"] / side.facts["sample"]
    return Cost(taken["seconds"] * whole, taken["cpu"] * whole, taken["memory"])


def measure(series: Path, lungmask: Side, out: Path, repetitions: int) -> dict[str, list[Cost]]:
    """Costs of each way to call the command, and of lungmask's network, in turn."""
    whole = all_outputs(series, out)
    commands: dict[str, Sequence[str | Path]] = {
        "predict -o, all results": whole,
        "predict -o --no-dicom --no-nifti": [*whole, "--no-dicom", "--no-nifti"],
        "predict, printing only": [GROUNDGLASS, "predict", series],
    }
    tasks = {name: partial(run_command, command) for name, command in commands.items()}
    return in_turn({**tasks, R231: partial(lungmask_cost, lungmask)}, repetitions)


def row(name: str, costs: list[Cost], slices: int) -> Row:
    return (
        name,
        spread([cost.wall for cost in costs], ".1f"),
        spread([cost.cpu for cost in costs], ".1f"),
        spread([slices / cost.wall for cost in costs], ".1f"),
        f"{max(cost.memory for cost in costs) / GB:.2f}",
    )


def ratios(costs: list[Cost], others: list[Cost]) -> Row:
    """Ratio of the others' wall time and CPU time, pair by pair."""
    pairs = list(zip(costs, others, strict=True))
    walls, cpus = ([other[part] / cost[part] for cost, other in pairs] for part in (0, 1))
    return spread(walls, ".1f"), spread(cpus, ".1f")


def compare(args: argparse.Namespace, work: Path) -> None:
    """One series, compared with lungmask's network."""
    series, about = choose_series(args.series, work)
    command = [sys.executable, str(SIDE_SCRIPT), "lungmask", str(series), str(args.sample)]
    lungmask = Side("lungmask", command, {}, work / "lungmask.log")
    costs = measure(series, lungmask, work / "out", args.repetitions)
    facts = lungmask.facts
    lungmask.close()
    print(
        f"{about}: {facts['slices']} slices of {' x '.join(map(str, facts['size']))}; lungmask's network on "
        f"{facts['sample']} of them, scaled ({facts['threads']} threads); repetitions of each, in turn: "
        f"{args.repetitions}"
    )
    rows = [(*row(name, some, facts["slices"]), *ratios(some, costs[R231])) for name, some in costs.items()]
    header = (*COLUMNS, "R231: wall, times", "R231: CPU, times")
    show("A series: median (least to largest)", header, rows, markdown=args.markdown)


def large(args: argparse.Namespace, work: Path) -> None:
    """A phantom with many slices, to measure memory."""
    series = write_phantom(work / "large", args.slices)
    costs = [run_command(all_outputs(series, work / "large-out")) for _ in range(LARGE_RUNS)]
    name = f"{args.slices} slices of 512 x 512, all results"
    show(
        "Many slices: median (least to largest)",
        COLUMNS,
        [row(name, costs, args.slices)],
        markdown=args.markdown,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--series", type=Path, help="a folder with one CT series [RICORD's, else a phantom]")
    options.add_argument("--sample", type=int, default=SAMPLE, help="slices for lungmask [%(default)s]")
    options.add_argument(
        "--slices", type=int, default=600, help="slices of the large phantom; 0 leaves it out [%(default)s]"
    )
    options.add_argument("--repetitions", type=int, default=3, help="of each [%(default)s]")
    options.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    args = options.parse_args()
    print(*machine(), sep="\n")
    with tempfile.TemporaryDirectory() as name:
        compare(args, Path(name))
        if args.slices:
            large(args, Path(name))
    print(f"load average of the minute before the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
