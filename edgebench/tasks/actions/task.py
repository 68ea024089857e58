"""What does this person do?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgebench.tasks.packaged import PackagedClassTask
from edgebench.tasks.task import ModelInfo


@dataclass(frozen=True, kw_only=True)
class ActionTask(PackagedClassTask):
    """One action a sample, by a person whom the models have not seen.

    Samples are uint8, skeletons or frames, see `models`. Groups are sequences: an interval tells of other sequences of
    the same people.
    """

    package: ClassVar[str] = "edgebench.tasks.actions"


ACTIONS = ActionTask(
    name="action-recognition",
    scenario="surveillance",
    models={
        "light": ModelInfo("three convolutions over time (of frames: five over a picture, averaged)", 154_484),
        "heavy": ModelInfo("ResNet-18 of half width on joint × time (of frames: of whole width, averaged)", 2_806_996),
        "published": ModelInfo("ResNet-18 at 224 × 224 (of frames: averaged)", 11_196_372),
    },
)
