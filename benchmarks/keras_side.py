"""Keras in benchmarks/training.py: the published small CNN with Keras' image generator.

Runs in an interpreter with TensorFlow, Pillow and scipy; Groundglass is not needed there. training.py starts it.
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorflow import keras

from common import MAX_EPOCHS, Pacer, versions


class Turns(keras.callbacks.Callback):
    def __init__(self, pacer: Pacer) -> None:
        super().__init__()
        self.pacer = pacer

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.pacer.begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.pacer.end()


def generator(args: argparse.Namespace) -> Any:
    changes = {"shear_range": args.shear, "zoom_range": args.zoom, "horizontal_flip": args.flip > 0}
    source = keras.preprocessing.image.ImageDataGenerator(rescale=1 / 255, **changes)
    batches = source.flow_from_directory(
        args.data, target_size=(args.size, args.size), batch_size=args.batch_size, class_mode="binary"
    )
    batches.workers = args.workers
    return batches


def small_cnn(args: argparse.Namespace) -> Any:
    layers = keras.layers
    stack: list[Any] = [keras.Input((args.size, args.size, 3))]
    for filters in args.filters:
        stack += [layers.Conv2D(filters, args.kernel, activation="relu"), layers.MaxPooling2D(args.pool)]
    stack += [layers.Flatten(), layers.Dense(args.hidden, activation="relu")]
    # As Keras recommends for mixed precision, the output stays in 32 bits.
    stack += [layers.Dense(1, activation="sigmoid", dtype="float32")]
    model = keras.Sequential(stack)
    model.compile(loss="binary_crossentropy", optimizer=keras.optimizers.RMSprop(args.rate))
    return model


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--batch-size", type=int, required=True)
    options.add_argument("--size", type=int, required=True)
    options.add_argument("--filters", type=int, nargs="+", required=True)
    options.add_argument("--kernel", type=int, required=True)
    options.add_argument("--pool", type=int, required=True)
    options.add_argument("--hidden", type=int, required=True)
    options.add_argument("--rate", type=float, required=True)
    options.add_argument("--shear", type=float, default=0.0)
    options.add_argument("--zoom", type=float, default=0.0)
    options.add_argument("--flip", type=float, default=0.0)
    options.add_argument("--policy", default="float32")
    options.add_argument("--workers", type=int, default=1)
    args = options.parse_args()
    pacer = Pacer()
    keras.mixed_precision.set_global_policy(args.policy)
    keras.utils.set_random_seed(0)
    batches, model = generator(args), small_cnn(args)
    pacer.facts = {
        "slices": batches.n,
        "parameters": model.count_params(),
        "precision": args.policy,
        "versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {versions(['pillow', 'scipy'])}",
    }
    model.fit(batches, epochs=MAX_EPOCHS, verbose=0, callbacks=[Turns(pacer)])


if __name__ == "__main__":
    main()
