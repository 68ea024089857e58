"""The file of a board that says how gear speaks MQTT in its own way: where a task's features are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgebench.errors import EdgebenchError, FabricError
from edgebench.fabric.endpoints import BrokerUrl, parse_broker_url
from edgebench.topology.fields import Strict
from edgebench.topology.overrides import json_path
from edgebench.topology.shape import ShapeError, typed
from edgebench.topology.strict_yaml import YamlError, parse

_DEVICE = "{device}"


class Place(Strict, frozen=True):
    """Where a feature is found: in messages on a topic, at a path (JMESPath; `@` is the whole), times scale plus
    offset."""

    path: str
    topic: str | None = None
    scale: float = 1.0
    offset: float = 0.0


class GearFile(Strict, frozen=True):
    """What `mqtt:FILE.yaml` holds.

    topic: a pattern, in which `{device}` is what the node's gear is called: by `devices`, else as the node. features:
    of the task, by name. every_s: a step each so many seconds of what was last heard (None: one once each feature has
    come anew).
    """

    broker: str
    features: dict[str, str | Place]
    topic: str | None = None
    devices: dict[str, str] = {}  # noqa: RUF012 - a new one each time
    every_s: float | None = None

    def place(self, feature: str) -> Place:
        """Of one that is named."""
        said = self.features[feature]
        return Place(said) if isinstance(said, str) else said

    def topic_of(self, feature: str, node: str) -> str:
        """Of a feature of a node's gear."""
        return (self.place(feature).topic or self.topic or "").replace(_DEVICE, self.devices.get(node, node))


class GearFileError(EdgebenchError):
    """What is wrong with such a file, and where."""


def read_gear_file(path: Path) -> GearFile:
    """Raises GearFileError, which names it."""
    try:
        file = typed(parse(path.read_bytes()), GearFile)
    except OSError as error:
        raise GearFileError(f"{path}: {error.strerror}") from error
    except YamlError as error:
        raise GearFileError(f"{path}: {error}") from error
    except ShapeError as error:
        raise GearFileError(f"{path}: {json_path(error.steps)}: {error.problem}") from error
    if not file.features:
        raise GearFileError(f"{path}: $.features names none (give the task's features, each with its path)")
    if file.every_s is not None and not file.every_s > 0:
        raise GearFileError(f"{path}: $.every_s is {file.every_s:g} (give seconds above 0)")
    for feature in file.features:
        if not (file.place(feature).topic or file.topic):
            raise GearFileError(f"{path}: $.features.{feature} has no topic (give one, or $.topic for all)")
    broker_of(file, path)
    return file


def broker_of(file: GearFile, path: Path) -> BrokerUrl:
    """Where its messages are. path: of the file. Raises GearFileError."""
    try:
        return parse_broker_url(file.broker)
    except FabricError as error:
        raise GearFileError(f"{path}: $.broker: {error}") from error


def compiled_paths(file: GearFile, path: Path) -> dict[str, Any]:
    """What finds each feature in a message (JMESPath), by name. path: of the file. Raises GearFileError."""
    try:
        import jmespath
    except ImportError:
        what = "messages are read by jmespath, which is not installed (pip install jmespath)"
        raise GearFileError(f"{path}: {what}") from None
    found = {}
    for feature in file.features:
        said = file.place(feature).path
        try:
            found[feature] = jmespath.compile(said)
        except jmespath.exceptions.JMESPathError as error:
            why = " ".join(str(error).split())[:200]
            raise GearFileError(f"{path}: $.features.{feature}: {said!r} is no path: {why}") from None
    return found
