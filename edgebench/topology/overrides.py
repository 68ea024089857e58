"""`--set path=value`: a field of a topology, changed before the topology is checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgebench.decoding import whole_number
from edgebench.errors import TopologyError
from edgebench.topology.strict_yaml import Value, YamlError, parse
from edgebench.topology.wording import did_you_mean, one_line

_STEP = re.compile(r"\.?([^.\[\]=]+)|\[(\d+)\]")
_MOST_SHOWN = 80
_NAMED = {"nodes": "node", "workloads": "workload"}
"""Fields whose keys are the user's own names: a step through an unknown one is a typing error, not a new object."""


@dataclass(frozen=True)
class Override:
    """A parsed `--set`. `place`: the JSON path of its value, once it is applied; `made`: that of the outermost thing
    that this has made or replaced."""

    text: str
    steps: tuple[str, ...]
    value: Value
    place: str = ""
    made: str = ""

    @property
    def label(self) -> str:
        """What error messages call it."""
        return f"--set {self.text}"


def apply_overrides(document: dict[str, Value], settings: Sequence[str]) -> list[Override]:
    """Apply `path=value` settings to a document, in place and in order.

    A path is written `links.0.latency_ms` or `links[0].latency_ms`, and reaches keys that have dots in them. The
    value is read as YAML, nothing as null.
    Raises TopologyError naming `--set PATH`.
    """
    return [_apply(document, _parsed(setting)) for setting in settings]


def json_path(steps: Sequence[str | int]) -> str:
    """`$.links[0].latency_ms`."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _parsed(setting: str) -> Override:
    path, equals, text = setting.partition("=")
    path = path.strip().removeprefix("$.")
    if not equals or not path:
        raise _wrong(f"--set {setting}: no path=value (write, for example, --set duration_s=10)")
    steps: list[str] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or (at == 0 and path[0] in ".["):
            raise _wrong(f"--set {path}: not a path (write, for example, links[0].latency_ms)")
        steps.append(match[1] or match[2])
        at = match.end()
    try:
        value = parse(text)
    except YamlError as error:
        shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
        raise _wrong(f"--set {path}: value {shown!r}: {str(error).partition(': ')[2]}") from error
    return Override(path, tuple(steps), value)


def _apply(document: dict[str, Value], override: Override) -> Override:
    """Walk to the last step, making optional objects on the way, and set it."""
    here: Value = document
    walked: list[str | int] = []
    made: str | None = None
    left = override.steps
    while left:
        step, left = _next_step(here, left)
        is_last = not left
        if isinstance(here, list):
            index = _index(override, here, walked, step)
            walked.append(index)
            if is_last:
                here[index] = override.value
            else:
                here = here[index]
        elif isinstance(here, dict):
            walked.append(step)
            if is_last:
                here[step] = override.value
            else:
                if here.get(step) is None:
                    _refuse_unknown_name(override, here, walked)
                    here[step] = {}
                    made = made or json_path(walked)
                here = here[step]
        else:
            raise _wrong(f"{override.label}: {json_path(walked)} is {here!r}, it has no '{step}'")
    place = json_path(walked)
    return replace(override, place=place, made=made or place)


def _next_step(here: Value, steps: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The first step, and those after it. A key that has dots in it, as an app's settings may, is one step."""
    if isinstance(here, dict):
        for end in range(len(steps), 1, -1):
            if (key := ".".join(steps[:end])) in here:
                return key, steps[end:]
    return steps[0], steps[1:]


def _index(override: Override, items: list[Value], walked: list[str | int], step: str) -> int:
    if not (step.isascii() and step.isdigit()):
        raise _wrong(f"{override.label}: {json_path(walked)} is a list, '{step}' is no index into it")
    index = whole_number(step)
    if index is None or index >= len(items):
        raise _wrong(f"{override.label}: {json_path(walked)} has {len(items)} entries, there is no [{step}]")
    return index


def _refuse_unknown_name(override: Override, here: dict[str, Value], walked: list[str | int]) -> None:
    if len(walked) == 2 and walked[0] in _NAMED:
        word, name = _NAMED[str(walked[0])], str(walked[1])
        raise _wrong(f"{override.label}: no {word} '{name}'{did_you_mean(name, here)}")
    if len(walked) == 1 and str(walked[0]) in ("links", "federated", "faults", "chaos", "jobs"):
        raise _wrong(f"{override.label}: {json_path(walked)} has 0 entries")


def _wrong(problem: str) -> TopologyError:
    return TopologyError([one_line(problem)])
