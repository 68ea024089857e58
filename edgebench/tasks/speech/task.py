"""Speech recognition in the smart home: from sound to characters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgebench.tasks.packaged import PackagedTask
from edgebench.tasks.speech.transcripts import greedy, speech_intervals, speech_metrics
from edgebench.tasks.task import ModelInfo


@dataclass(frozen=True, kw_only=True)
class SpeechTask(PackagedTask):
    """What was said, a character at a time: samples int16 [n] at 8 kHz, outputs [steps * 29], log-probabilities."""

    package: ClassVar[str] = "edgebench.tasks.speech"

    def loss(self, labels: Any, outputs: Any) -> Any:
        """See `Task.loss`: that of connectionist temporal classification."""
        from edgebench.tasks.speech.fit import ctc

        return ctc(labels, outputs)

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


TASK = SpeechTask(
    name="speech-recognition",
    scenario="smart-home",
    metric="word_accuracy",
    models={
        "light": ModelInfo("2 convolutions over time, bidirectional GRU 64", 87_453),
        "heavy": ModelInfo("DeepSpeech2: 2 convolutions over time and mel bands, 2 bidirectional GRU 96", 379_293),
        "published": ModelInfo("DeepSpeech2: 2 convolutions over a spectrogram, 5 bidirectional GRU 800", 41_196_061),
    },
)
