"""Placements as settings of a sweep: files, and what policies make of each cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgebench.errors import EdgebenchError
from edgebench.experiments.cells import content_key
from edgebench.experiments.given import TopologyFile
from edgebench.experiments.place import PlaceOptions, place
from edgebench.experiments.placements import ONLINE, with_placement
from edgebench.experiments.sweep_cells import Calibrations
from edgebench.experiments.sweep_spec import PLACEMENT, POLICY, SweepSpec
from edgebench.results.sweeps import Settings, in_words
from edgebench.topology.model import Durability
from edgebench.topology.wording import one_line

PLACEMENTS = "placements"


class Placing:
    """Of one sweep. What a policy has made of a cell is kept in the sweep's folder, and not made again."""

    def __init__(
        self,
        spec: SweepSpec,
        spec_file: Path,
        folder: Path,
        runs: Calibrations,
        measured: Mapping[Durability, Sequence[str]],
        tell: Callable[[str], None],
    ) -> None:
        """measured: the digests of the runs."""
        self._spec = spec
        self._spec_file = spec_file
        self._folder = folder / PLACEMENTS
        self._runs = runs
        self._measured = measured
        self._tell = tell

    def placed(self, given: TopologyFile, settings: Settings) -> TopologyFile:
        """The topology of a cell, placed where its settings say so. Raises EdgebenchError."""
        axes = {axis: settings[axis] for axis in (PLACEMENT, POLICY) if settings.get(axis) is not None}
        if not axes:
            return given
        try:
            if len(axes) > 1:
                raise EdgebenchError(f"{PLACEMENT} and {POLICY}: give one of the two (and null for the other)")
            ((axis, value),) = axes.items()
            if not isinstance(value, str):
                raise EdgebenchError(f"{axis}: {value!r} is no name (write text, or null)")
            if axis == POLICY:
                return with_placement(given, self._by_policy(given, value))
            return with_placement(given, value if value == ONLINE else self._spec_file.parent / value)
        except EdgebenchError as error:
            raise EdgebenchError(one_line(f"{self._spec_file}: {in_words(settings)}: {error}")) from error

    def _by_policy(self, given: TopologyFile, policy: str) -> Path:
        """The file of what a policy decides."""
        spec, durability = self._spec, given.topology.durability
        told = not given.topology.jobs  # whose times are in profiles
        asked = [*self._measured.get(durability, ())] if told else []
        asked += [policy, *spec.objective, "at most", *spec.at_most]
        file = self._folder / f"{content_key(given.topology, asked)}.json"
        if not file.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            part = file.with_name(f"{file.name}.part")
            options = PlaceOptions(
                policy=policy,
                out=part,
                objective=spec.objective,
                at_most=spec.at_most,
                calibrate=tuple(run.path for run in self._runs.get(durability, ())) if told else (),
                tell=self._tell,
            )
            place(given, options)
            part.replace(file)
        return file
