"""The sources of the intensive care unit that know a task's answer."""

from __future__ import annotations

from edgebench.tasks.icu import eicu, mimic3, physionet2012
from edgebench.tasks.icu.generator import Outcome
from edgebench.tasks.task import DataSource


def sources(outcome: Outcome) -> tuple[DataSource, ...]:
    """The sources that know this outcome, in the order in which they are preferred.

    Death is asked of PhysioNet 2012 first, which has the most patients that anyone may have; the others
    of eICU first, which has one label for all.
    """
    # A folder under another name may hold the set, but not that of another task of the same benchmark.
    others = tuple(mimic3.FOLDERS.values())
    icu = DataSource(
        eicu.NAME, eicu.FOLDER, eicu.MARKERS, eicu.HOW_TO_GET, lambda folder: eicu.load(folder, outcome), others
    )
    name = mimic3.FOLDERS[outcome]
    benchmark = DataSource(
        f"{mimic3.NAME}, {name}",
        name,
        mimic3.MARKERS,
        f"{mimic3.HOW_TO_GET}: its {name}/ with train/ and test/",
        lambda folder: mimic3.load(folder, outcome),
        others,
    )
    if outcome == "death":
        challenge = physionet2012
        return (
            DataSource(
                challenge.NAME, challenge.FOLDER, challenge.MARKERS, challenge.HOW_TO_GET, challenge.load, others
            ),
            benchmark,
            icu,
        )
    return icu, benchmark
