"""Training throughput: Groundglass compared with Keras and its image generator, and the share of loading.

Trains the published small CNN (2 x 2 convolutions with ReLU, 3 x 3 max-pooling, a dense layer, sigmoid; 224 x
224 x 3) on the same pictures, on the same cores, with the same batch size, an epoch of each side in turn. The
number of filters was not published; FILTERS and HIDDEN are our choice. See benchmarks/README.md.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from common import Row, Side, machine, parser, prepare_slices, show, spread

HERE = Path(__file__).parent
SIZE = 224
FILTERS = (32, 64)
KERNEL = 2
POOL = 3
HIDDEN = 64
RATE = 1e-3
AUGMENTATION = {"shear": 0.2, "zoom": 0.2, "flip": 0.5}
"""As published for the small CNN; shear is in degrees, both in Keras and in a recipe."""
SMALL_CNN: dict[str, Any] = {
    "name": "small-cnn",
    "data": {"dataset": "benchmark"},
    "preprocessing": {"size": [SIZE, SIZE], "resize": "stretch", "channels": 3, "mean": 0.0, "std": 1.0},
    "model": {
        "name": "small-cnn",
        "filters": list(FILTERS),
        "kernel": KERNEL,
        "pool": POOL,
        "hidden": HIDDEN,
    },
    "optimiser": {"name": "rmsprop", "lr": RATE},
}
LITE0: dict[str, Any] = {
    "name": "EfficientNet-Lite0",
    "data": {"dataset": "benchmark"},
    "preprocessing": {"size": [SIZE, SIZE]},
    "model": {"name": "timm/tf_efficientnet_lite0", "dropout": 0.2},
}
OURS, OURS_32 = "Groundglass", "Groundglass, 32 bits"
KERAS, KERAS_TUNED = "Keras", "Keras, bf16, 2 workers"
PAIRS = ((OURS, KERAS), (OURS_32, KERAS), (OURS, KERAS_TUNED))


class Bench:
    """Starts the sides, all on the same slices."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args = args
        self.work = work
        self.data = work / "slices"
        files, self.about = prepare_slices(args.data, args.slices, self.data)
        self.count = len(files)
        self.common = ["--data", str(self.data)]

    def ours(self, name: str, recipe: Path | dict[str, Any], precision: str = "auto") -> Side:
        """Groundglass by a recipe, with its own empty cache."""
        if isinstance(recipe, dict):
            content = recipe | ({"augmentation": AUGMENTATION} if self.args.augment else {})
            recipe = self.work / "recipe.yaml"
            recipe.write_text(yaml.safe_dump(content))
        changes = (f"training.batch_size={self.args.batch_size}", f"training.precision={precision!r}")
        settings = [word for change in changes for word in ("--set", change)]
        script = str(HERE / "groundglass_side.py")
        command = [sys.executable, script, str(recipe), *settings, *self.common]
        with tempfile.TemporaryDirectory(dir=self.work) as cache:
            return self._start(name, command, {"GROUNDGLASS_CACHE": cache})

    def keras(self, name: str, *further: str) -> Side:
        """The small CNN in Keras."""
        network = {"size": SIZE, "kernel": KERNEL, "pool": POOL, "hidden": HIDDEN, "rate": RATE}
        augmentation = AUGMENTATION if self.args.augment else {}
        settings = {**network, "batch-size": self.args.batch_size, **augmentation}
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        command = [self.args.keras_python, str(HERE / "keras_side.py"), *self.common, *words, *further]
        return self._start(name, [*command, "--filters", *map(str, FILTERS)], {})

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> Side:
        print(f"{name}: starting", file=sys.stderr)
        return Side(name, command, environment, self.work / "side.log")

    def take_turns(self, sides: list[Side]) -> None:
        """One epoch of each side in turn, for each repetition."""
        for repetition in range(self.args.repetitions):
            print(f"repetition {repetition + 1} of {self.args.repetitions}", file=sys.stderr)
            for side in sides:
                side.epoch()
        for side in sides:
            side.close()


def why_no_keras(python: str | None) -> str:
    """Why Keras cannot be measured; empty if it can."""
    if python is None:
        return "--keras-python names no interpreter"
    probe = "import tensorflow, PIL, scipy; tensorflow.keras.preprocessing.image.ImageDataGenerator"
    try:
        outcome = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return outcome.stderr.strip().splitlines()[-1] if outcome.returncode else ""


def check_same(sides: list[Side], count: int) -> None:
    """The comparison is void unless every side trains the same network on all slices."""
    for side in sides:
        if side.facts["slices"] != count:
            sys.exit(f"{side.name} reads {side.facts['slices']} of {count} slices (Keras reads no WebP)")
        if side.facts["parameters"] != sides[0].facts["parameters"]:
            sys.exit(f"{side.name} has a different network from {sides[0].name}")


def small_cnn_sides(bench: Bench) -> list[Side]:
    sides = [bench.ours(OURS, SMALL_CNN), bench.ours(OURS_32, SMALL_CNN, "32")]
    if reason := why_no_keras(bench.args.keras_python):
        print(f"Keras is not measured: {reason}")
    else:
        sides += [
            bench.keras(KERAS),
            bench.keras(KERAS_TUNED, "--policy", "mixed_bfloat16", "--workers", "2"),
        ]
        print(f"Keras' interpreter: {sides[-1].facts['versions']}")
    check_same(sides, bench.count)
    return sides


def throughput_row(model: str, side: Side) -> Row:
    facts = side.facts
    cpu = [1000 * epoch["cpu"] / facts["slices"] for epoch in side.epochs]
    decoding = f"{facts['decoding']:.2f} s" if "decoding" in facts else "in each epoch"
    reading = f"{facts['reading']:.2f} s" if "reading" in facts else ""
    first = f"{facts['seconds']:.1f} s"
    rates = spread(side.rates())
    return model, side.name, facts["precision"], rates, spread(cpu, ".1f"), decoding, reading, first


def ratio_rows(sides: list[Side]) -> list[Row]:
    rates = {side.name: side.rates() for side in sides}
    rows: list[Row] = []
    for ours, theirs in PAIRS:
        if theirs in rates:
            ratios = [a / b for a, b in zip(rates[ours], rates[theirs], strict=True)]
            rows.append((f"{ours} / {theirs}", spread(ratios, ".2f")))
    return rows


def share_row(model: str, side: Side) -> Row:
    loading = [100 * epoch["loading"] / epoch["seconds"] for epoch in side.epochs]
    preparing = [100 * epoch["preparing"] / epoch["seconds"] for epoch in side.epochs]
    rest = [100 - a - b for a, b in zip(loading, preparing, strict=True)]
    return model, side.name, spread(loading, ".2f"), spread(preparing, ".1f"), spread(rest, ".1f")


def main() -> None:
    options = parser(__doc__ or "", slices=420, repetitions=7)
    options.add_argument(
        "--keras-python", metavar="PATH", help="an interpreter with TensorFlow, Pillow, scipy"
    )
    options.add_argument("--batch-size", type=int, default=16, help="on both sides [%(default)s]")
    options.add_argument("--augment", action="store_true", help="shear, zoom and flip, as published")
    options.add_argument(
        "--recipe",
        type=Path,
        action="append",
        default=[],
        help="also measure this recipe, with its augmentation",
    )
    args = options.parse_args()
    print(*machine(), sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        augmentation = "shear 0.2, zoom 0.2, flip" if args.augment else "no augmentation"
        print(
            f"{bench.about}; batch {args.batch_size}; {augmentation}; {args.repetitions} epochs of each, in turn"
        )
        small = small_cnn_sides(bench)
        bench.take_turns(small)
        ours = [("small CNN", side) for side in small if side.name in (OURS, OURS_32)]
        larger = [("EfficientNet-Lite0", bench.ours(OURS, LITE0))]
        larger += [(recipe.stem, bench.ours(OURS, recipe)) for recipe in args.recipe]
        bench.take_turns([side for _, side in larger])
    measured = [*(("small CNN", side) for side in small), *larger]
    show(
        "Training: median (least to largest)",
        (
            "network",
            "side",
            "precision",
            "images/s",
            "CPU ms an image",
            "decoding",
            "from cache",
            "first epoch",
        ),
        [throughput_row(model, side) for model, side in measured],
        markdown=args.markdown,
    )
    if ratios := ratio_rows(small):
        show(
            "Images/s, pair by pair: median (least to largest)",
            ("small CNN", "ratio"),
            ratios,
            markdown=args.markdown,
        )
    show(
        "Share of a training epoch, %: median (least to largest)",
        ("network", "side", "loading", "augmentation and normalisation", "forward, backward, step"),
        [share_row(model, side) for model, side in [*ours, *larger]],
        markdown=args.markdown,
    )


if __name__ == "__main__":
    main()
