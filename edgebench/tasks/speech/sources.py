"""The layouts in which people have speech with transcripts."""

from __future__ import annotations

from edgebench.tasks.speech import folder, fsdd, librispeech
from edgebench.tasks.task import DataSource


def sources() -> tuple[DataSource, ...]:
    """The smallest first, which trains within minutes."""
    return tuple(
        DataSource(kind.NAME, kind.FOLDER, kind.MARKERS, kind.HOW_TO_GET, kind.load)
        for kind in (fsdd, librispeech, folder)
    )
