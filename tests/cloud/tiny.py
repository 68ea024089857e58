"""A user's own task, small enough to be learned in no time, and two that misbehave."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import sleep_s
from edgebench.errors import DataError
from edgebench.seeds import rng_for
from edgebench.tasks.images import png
from edgebench.tasks.metrics import binary_intervals, binary_metrics
from edgebench.tasks.task import Baseline, Dataset, Epoch, FitOptions, Loss, ModelInfo, Size, Split

if TYPE_CHECKING:
    import keras

NAME = "tests.cloud.tiny:TASK"
STEPS, FEATURES = 8, 3


@dataclass(frozen=True)
class TinyTask:
    """Is the mean of a 8 × 3 sample above zero? `light` is a dense network, `heavy` a recurrent one."""

    name: str = NAME
    scenario: str = "test"
    metric: str = "auroc"
    models: Mapping[Size, ModelInfo] = field(
        default_factory=lambda: {"light": ModelInfo("dense 8"), "heavy": ModelInfo("LSTM 4")}
    )
    fitting: Literal["sound", "crash", "error", "slow"] = "sound"

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        if data is not None:
            raise DataError(f"{data}: no tiny data set; leave --data out")
        rng = rng_for(seed, "tiny")
        splits = {}
        for first, (name, size) in enumerate((("train", 300), ("valid", 60), ("test", 70))):
            x = rng.normal(size=(size, STEPS, FEATURES)).astype(np.float32)
            y = (x.mean(axis=(1, 2)) > 0).astype(np.float32)[:, None]
            splits[name] = Split(x=x, y=y, group=np.arange(size, dtype=np.int64) // 2 + 1_000 * first)
        beside = {"the first ten": splits["test"].rows(np.arange(10))}
        return Dataset.of(splits, source="tiny", real=False, features=("a", "b", "c"), beside=beside)

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
        if self.fitting == "slow":
            Path(os.environ["TINY_PID_FILE"]).write_text(str(os.getpid()))
            sleep_s(60)
        if self.fitting == "crash":
            os.write(2, b"the ground gives way\n")
            os.abort()
        if self.fitting == "error":
            raise ValueError("cannot\nlearn this")
        import keras

        keras.utils.set_random_seed(options.seed)
        inside: list[Any] = (
            [keras.layers.Flatten(), keras.layers.Dense(8, activation="tanh")]
            if size == "light"
            else [keras.layers.LSTM(4)]
        )
        model = keras.Sequential(
            [keras.Input((STEPS, FEATURES), name="sample"), *inside, keras.layers.Dense(1, activation="sigmoid")]
        )
        model.compile(keras.optimizers.Adam(0.03), "binary_crossentropy")
        epochs = options.epochs or 3
        for epoch in range(1, epochs + 1):
            history = model.fit(dataset.train.x, dataset.train.y, batch_size=50, epochs=1, verbose=0)
            quality = self.score(model.predict(dataset.valid.x, verbose=0), dataset.valid.y)["auroc"]
            if options.progress is not None:
                loss, drawn = history.history["loss"][0], drawn_by(size)
                options.progress(Epoch(epoch=epoch, epochs=epochs, loss=loss, quality=quality, picture=drawn))
        return model

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        return binary_metrics(outputs, labels)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        return binary_intervals(outputs, labels, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        def scored(split: Split) -> dict[str, float]:
            return self.score(split.x.mean(axis=(1, 2)), split.y)

        beside = {where: scored(split) for where, split in dataset.beside.items()}
        return Baseline("the mean itself", scored(dataset.test), beside)


class Second(TinyTask):
    """Which learns from whatever another model gives."""

    def fit(self, size: Size, dataset: Dataset, options: FitOptions) -> keras.Model:
        import keras

        keras.utils.set_random_seed(options.seed)
        answer = keras.layers.Dense(1, activation="sigmoid")
        model = keras.Sequential([keras.Input(dataset.spec.shape, name="given"), answer])
        model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
        model.fit(dataset.train.x, dataset.train.y, epochs=options.epochs or 3, verbose=0)
        return model


class Unscored(TinyTask):
    """Whose outputs can be scored in the cloud, on the split valid, and not in a report."""

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """Raises ValueError."""
        if len(outputs) != 60:
            raise ValueError(f"{len(outputs)} outputs, not 60")
        return super().score(outputs, labels)


class Learnable(TinyTask):
    """Which devices can learn on together."""

    loss: Loss = "binary_crossentropy"


def drawn_by(size: Size) -> bytes:
    """What a model of this size draws."""
    return png(np.full((2, 3, 3), len(size), np.uint8), f"drawn by {size}")


TASK = TinyTask()
CRASHING = TinyTask(name="tests.cloud.tiny:CRASHING", fitting="crash")
FAILING = TinyTask(name="tests.cloud.tiny:FAILING", fitting="error")
LIGHT_ONLY = TinyTask(name="tests.cloud.tiny:LIGHT_ONLY", models={"light": ModelInfo("dense 8")})
LEARNABLE = Learnable(name="tests.cloud.tiny:LEARNABLE")
SECOND = Second(name="tests.cloud.tiny:SECOND")
UNSCORED = Unscored(name="tests.cloud.tiny:UNSCORED")
SLOW = TinyTask(name="tests.cloud.tiny:SLOW", fitting="slow")
