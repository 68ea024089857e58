"""The sources of actions."""

from __future__ import annotations

from edgebench.tasks.actions import msr_action3d, ucf101
from edgebench.tasks.task import DataSource


def sources() -> tuple[DataSource, ...]:
    """The sources in the order in which they are preferred: skeletons, which a small machine learns, then videos."""
    layouts = (msr_action3d, ucf101)
    return tuple(DataSource(each.NAME, each.FOLDER, each.MARKERS, each.HOW_TO_GET, each.load) for each in layouts)
