"""Job traces, in a topology file: jobs that are to be placed on its nodes, and what they cost where."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from edgebench.topology.fields import Name, Strict, TimeS

Priority = Annotated[int, Meta(ge=1, le=1000)]
JobBytes = Annotated[int, Meta(ge=1, le=10**15)]
WorkRate = Annotated[float, Meta(ge=1e-3, le=1e21)]
WorkCount = Annotated[int, Meta(ge=1, le=10**15)]


class Job(Strict, frozen=True):
    """`size_bytes` of data of a task, which are on `device` at `release_s` and are to be decided. priority: the weight
    of its response time."""

    release_s: TimeS
    priority: Priority
    task: str
    device: Name
    size_bytes: JobBytes


class ByParameters(Strict, frozen=True, tag="parameters", tag_field="by"):
    """A sample takes as long as its model has parameters.

    per_s: group of nodes -> how many parameters of one sample it works through in a second. size: of the model.
    counts: task -> how many parameters, where they are not those that `edgebench tasks` tells. sample_bytes: task ->
    bytes of one sample, where nothing else tells it.
    """

    per_s: dict[Name, WorkRate]
    size: Literal["light", "heavy", "published"] = "published"
    counts: dict[str, WorkCount] = field(default_factory=dict)
    sample_bytes: dict[str, WorkCount] = field(default_factory=dict)


class ByMultiplyAdds(Strict, frozen=True, tag="multiply-adds", tag_field="by"):
    """A sample takes as long as its model has multiply-adds for it; fields as in `ByParameters`."""

    per_s: dict[Name, WorkRate]
    size: Literal["light", "heavy", "published"] = "published"
    counts: dict[str, WorkCount] = field(default_factory=dict)
    sample_bytes: dict[str, WorkCount] = field(default_factory=dict)


class ByProfile(Strict, frozen=True, tag="measured", tag_field="by"):
    """Samples take the mean of what the nodes' profiles say that this model takes for so many."""

    size: Literal["light", "heavy", "published"] = "light"
    runtime: Literal["litert", "keras", "onnx"] = "litert"
    quantisation: Literal["float32", "float16", "dynamic", "int8"] = "float32"
    sample_bytes: dict[str, WorkCount] = field(default_factory=dict)


Cost = ByParameters | ByMultiplyAdds | ByProfile
