"""The kit that a federated client needs to learn a model on: a folder that the cloud makes and clients fetch.

`kit.json` (a `KitInfo`), the training step as a LiteRT graph (`step.tflite`, `step.json`) or the model (`model.keras`),
and the training data with the samples of each client (`partition.PARTITION_FILES`).
"""

from __future__ import annotations

import msgspec

KIT = "kit.json"
MODEL = "model.keras"
STEP = "step.tflite"
STEP_SPEC = "step.json"
INITIAL = "initial.parcel"
"""The weights that the first round begins with; it lies beside the kit, and the cloud keeps it."""


class KitInfo(msgspec.Struct, frozen=True):
    """What is in a kit, and how the training data lies on the clients.

    files: what a client fetches. samples, groups: of each client, in their order.
    """

    runtime: str
    files: tuple[str, ...]
    samples: tuple[int, ...]
    groups: tuple[int, ...]
