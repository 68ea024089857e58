"""Manifests for tests, which change what they are about."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from edgebench.inference.spec import Manifest, TensorSpec

_PLAIN = Manifest(
    digest="0" * 64,
    size_bytes=0,
    task="t",
    model_size="light",
    runtime="fake",
    quantisation="float32",
    input=TensorSpec("float32", (2,)),
    outputs=1,
    batches=(1,),
    parameters=0,
    data_source="made up",
    real=False,
    examples=0,
    epochs=0,
    seed=0,
    evaluated_on="valid",
    metrics={},
    train_s=0.0,
)


def manifest(**changes: Any) -> Manifest:
    """Of a fake model that takes two numbers and gives one."""
    return msgspec.structs.replace(_PLAIN, **changes)


def manifest_of(content: bytes, **changes: Any) -> Manifest:
    """Of a file with this content."""
    return manifest(digest=hashlib.sha256(content).hexdigest(), size_bytes=len(content), **changes)
