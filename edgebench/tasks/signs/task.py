"""The task of recognising traffic signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgebench.tasks.packaged import PackagedClassTask
from edgebench.tasks.task import ModelInfo


@dataclass(frozen=True, kw_only=True)
class SignTask(PackagedClassTask):
    """Which of 43 signs is it? Samples are uint8 [32, 32, 3]; groups are tracks, many pictures of one sign."""

    package: ClassVar[str] = "edgebench.tasks.signs"


TASK = SignTask(
    name="sign-recognition",
    scenario="vehicle",
    models={
        "light": ModelInfo("3 convolutions, dense 96", 141_779),
        "heavy": ModelInfo("3 convolutions, 128 primary capsules, 43 sign capsules of 8, 3 rounds of routing", 482_976),
        "published": ModelInfo("CapsNet: convolution 256, 2,048 primary capsules, 43 sign capsules of 16", 16_643_328),
    },
)
