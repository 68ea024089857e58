"""The last samples of which something was noted."""

from __future__ import annotations

from collections import OrderedDict

from edgebench.core.samples import SampleKey

_REMEMBERED = 100_000


class LastKeys:
    """Of the last 100,000. For one thread at a time."""

    def __init__(self) -> None:
        self._keys = OrderedDict[SampleKey, None]()

    def add(self, key: SampleKey) -> bool:
        """Note one. Whether that is news."""
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)
        return True

    def discard(self, key: SampleKey) -> None:
        """Forget one. Not noted is fine."""
        self._keys.pop(key, None)
