"""The sources of traffic signs, the preferred one first."""

from __future__ import annotations

from edgebench.tasks.signs.gtsrb import MIRRORED, NAME, PUBLISHED, load_mirrored, load_published
from edgebench.tasks.task import DataSource


def sources() -> tuple[DataSource, ...]:
    """GTSRB as it is published, and as it is mirrored."""
    return (
        DataSource(NAME, "GTSRB", ("Final_Training/Images", "Training/*/GT-*.csv"), PUBLISHED, load_published),
        DataSource(f"{NAME}, Kaggle", "gtsrb-kaggle", ("Train/42",), MIRRORED, load_mirrored),
    )
