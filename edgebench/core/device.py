"""A device: its streams, and the site that it is at."""

from __future__ import annotations

import msgspec

from edgebench.core.stream import Stream


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """A device left its site for another. up_ns: when its connection there stood; None where it never did.

    resent: samples without a decision, which it took along and sent again.
    """

    node: str
    left: str
    to: str
    left_ns: int
    up_ns: int | None
    resent: int


class Device:
    """One device. It is at a site, or on the way to one, and takes its undecided samples along."""

    __slots__ = ("_move", "name", "sites", "streams")

    def __init__(self, name: str, site: str) -> None:
        self.name = name
        self.streams: list[Stream] = []
        self.sites = [site]
        """Those that it has been at, or is on the way to, in order."""
        self._move: Moved | None = None

    @property
    def moving(self) -> bool:
        """Whether it has left a site, and is not at the next one yet: nobody would hear its decisions."""
        return self._move is not None

    def leave(self, to: str, now_ns: int) -> Moved | None:
        """It leaves for another site. The move before is given back where it never came to its end."""
        unfinished = self._move
        undecided = sum(len(stream.takes_along) for stream in self.streams)
        self._move = Moved(self.name, self.sites[-1], to, now_ns, None, undecided)
        self.sites.append(to)
        return unfinished

    def is_up(self, now_ns: int) -> Moved | None:
        """It is connected at its site; where it had moved there, what is undecided is sent again."""
        if self._move is None:
            return None
        moved = msgspec.structs.replace(self._move, up_ns=now_ns)
        self._move = None
        for stream in self.streams:
            stream.send_again(moved=True)
        return moved

    def give_up(self) -> Moved | None:
        """The streams are over: what is undecided is lost, and a move that never came to its end is given back."""
        unfinished, self._move = self._move, None
        for stream in self.streams:
            stream.give_up()
        return unfinished
