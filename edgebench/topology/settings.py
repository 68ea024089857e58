"""Settings of a Flower app: tables within tables, or dotted keys, which mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Setting = bool | int | float | str

OURS = ("partition-id", "num-partitions")
"""Of a client's node config: which part of the data is its own, and of how many."""


class SettingError(Exception):
    """key: dotted, of the setting. problem: what is wrong with it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"'{key}' {problem}")
        self.key = key
        self.problem = problem


def flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Setting]:
    """Settings by dotted key, as Flower hands them to an app.

    >>> flat({"optimiser": {"name": "sgd", "momentum": 0.9}, "optimiser.decay": 0.1})
    {'optimiser.name': 'sgd', 'optimiser.momentum': 0.9, 'optimiser.decay': 0.1}

    Raises SettingError for one that is no number, text or truth value, and for one that stands twice.
    """
    found: dict[str, Setting] = {}
    for name, value in tables.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            inner = flat(value, f"{key}.")
        elif isinstance(value, bool | int | float | str):
            inner = {key: value}
        else:
            raise SettingError(key, "is neither a number, a text, nor true or false")
        twice = next((each for each in inner if each in found), None)
        if twice is not None:
            raise SettingError(twice, "stands twice, in a table and by its dotted key (remove one)")
        found |= inner
    return found


def of_node(tables: Mapping[str, Any], group: str, node: str) -> dict[str, Setting]:
    """A node's own of what all have, a group or a node: the nearest goes first.

    >>> of_node({"site": "north", "bed": {"data": "/a"}, "bed-1": {"data": "/b"}}, "bed", "bed-1")
    {'site': 'north', 'data': '/b'}

    Raises SettingError as `flat` does.
    """
    common = {key: value for key, value in tables.items() if not isinstance(value, Mapping)}
    return flat(common) | flat(tables.get(group, {})) | flat(tables.get(node, {}))
