"""The sources of lanes, the preferred one first."""

from __future__ import annotations

from edgebench.tasks.lanes import labelled, tusimple, video
from edgebench.tasks.task import DataSource


def sources() -> tuple[DataSource, ...]:
    """Where lanes can be learned from, the preferred source first."""
    return (
        DataSource(tusimple.NAME, tusimple.FOLDER, tusimple.MARKERS, tusimple.HOW_TO_GET, tusimple.load),
        DataSource(labelled.NAME, labelled.FOLDER, labelled.MARKERS, labelled.HOW_TO_GET, labelled.load),
        DataSource(video.NAME, video.FOLDER, video.VIDEOS, video.HOW_TO_GET, video.load),
    )
