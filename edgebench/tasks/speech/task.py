"""Speech recognition in the smart home: from sound to characters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.sources import Source, load
from edgebench.tasks.speech.generator import generate
from edgebench.tasks.speech.transcripts import greedy, speech_intervals, speech_metrics
from edgebench.tasks.task import Baseline, Dataset, Epoch, ModelInfo, Size

if TYPE_CHECKING:
    import keras


def _models() -> dict[Size, ModelInfo]:
    return {
        "light": ModelInfo("2 convolutions over time, bidirectional GRU 48", 69_437),
        "heavy": ModelInfo("DeepSpeech2: 2 convolutions over time and mel bands, 2 bidirectional GRU 96", 379_293),
        "published": ModelInfo("DeepSpeech2: 2 convolutions over a spectrogram, 5 bidirectional GRU 800", 41_196_061),
    }


@dataclass(frozen=True)
class SpeechTask:
    """What was said, a character at a time. Implements `edgebench.tasks.task.Task`."""

    name: str = "speech-recognition"
    scenario: str = "smart-home"
    metric: str = "word_accuracy"
    models: Mapping[Size, ModelInfo] = field(default_factory=_models)

    def sources(self) -> Sequence[Source]:
        """See `Task.sources`."""
        from edgebench.tasks.speech.sources import sources

        return sources()

    def load(self, data: Path | None, *, seed: int) -> Dataset:
        """See `Task.load`. Real data is split in the same way whatever the seed."""
        return generate(seed=seed) if data is None else load(self.name, self.sources(), data)

    def fit(
        self,
        size: Size,
        dataset: Dataset,
        *,
        seed: int,
        epochs: int | None = None,
        examples: int | None = None,
        progress: Callable[[Epoch], None] | None = None,
    ) -> keras.Model:
        """See `Task.fit`; samples int16 [batch, n] at 8 kHz, outputs float32 [batch, steps * 29], log-probabilities."""
        from edgebench.tasks.speech.fit import fit

        return fit(size, dataset, seed=seed, epochs=epochs, examples=examples, progress=progress)

    def score(self, outputs: NDArray[np.float32], labels: NDArray[np.float32]) -> dict[str, float]:
        """`word_accuracy` (1 − WER, below 0 where there are more errors than words), `wer` and `cer`."""
        return speech_metrics(greedy(outputs), labels)

    def intervals(
        self,
        outputs: NDArray[np.float32],
        labels: NDArray[np.float32],
        *,
        seed: int,
        group: NDArray[np.int64] | None = None,
    ) -> dict[str, tuple[float, float]]:
        """See `Task.intervals`."""
        return speech_intervals(greedy(outputs), labels, seed=seed, group=group)

    def baseline(self, dataset: Dataset, *, seed: int) -> Baseline:
        """See `Task.baseline`; nothing in it is left to chance."""
        from edgebench.tasks.speech.baseline import fit_baseline

        return fit_baseline(dataset)


TASK = SpeechTask()
