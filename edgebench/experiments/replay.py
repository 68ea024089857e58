"""`edgebench replay`: what a run was, run again from its run directory alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError
from edgebench.experiments.given import TopologyFile, open_topology
from edgebench.experiments.run import RunOptions, run_topology
from edgebench.experiments.simulate import SimulateOptions, simulate_topology
from edgebench.results.comparison.compare import compare
from edgebench.results.comparison.figures import Comparison
from edgebench.results.figures import Result
from edgebench.results.rundir import KeptOptions, StoredRun, load_run, read_options, read_result
from edgebench.simulation.layout import PROFILE
from edgebench.topology.deployment import SIMULATE
from edgebench.topology.loading import names_a_file
from edgebench.topology.wording import listed

_IN_REGISTRY = "sha256:"


def replay(folder: Path, out: Path | None = None, *, progress: bool = False) -> tuple[Path, Result, Comparison]:
    """Run, or simulate, again what a run was: its topology with traces, profiles and overrides, by its executor, from
    its seed.

    out: where the new run directory goes (None: beside the other). Gives it, its figures, and the comparison of both.
    Raises EdgebenchError with a line for each thing that is needed, and no longer there.
    """
    stored = load_run(folder)
    executor = stored.deployment.executor
    read_result(folder)  # else there is nothing to compare with
    given, kept = open_topology(folder), read_options(folder)
    lacking = [f"{folder}: {problem}" for problem in (*_untold(kept, stored), *_lacking(given, kept))]
    if lacking:
        raise EdgebenchError("\n".join(lacking))
    out = folder.resolve().parent if out is None else out
    if executor == SIMULATE:
        calibrate = tuple(map(Path, kept.calibrate))
        run_dir, result = simulate_topology(given, SimulateOptions(calibrate=calibrate, out=out))
        return run_dir, result, compare([folder, run_dir])
    registry = None if kept.registry is None else Path(kept.registry)
    options = RunOptions(
        out=out,
        executor=executor,
        registry=registry if registry is not None and registry.is_dir() else None,
        resume=None if kept.resume is None else Path(kept.resume),
        retrain=kept.retrain,
        base_image=kept.base_image,
        meter=kept.meter,
        progress=progress,
    )
    run_dir, result = run_topology(given, options)
    return run_dir, result, compare([folder, run_dir])


def _untold(kept: KeptOptions, stored: StoredRun) -> Iterator[str]:
    """The runs that said what things take, where they are not there any more."""
    told_by = [source for source in stored.observations.calibrated_by if not source.startswith(PROFILE)]
    if len(told_by) > len(kept.calibrate):
        yield f"does not say where {listed(told_by)} were, which say what things take (edgebench simulate it again)"
    for folder in kept.calibrate:
        if not Path(folder).is_dir():
            yield f"what things take was told by {folder}, which is not there (put it back)"


def _lacking(given: TopologyFile, kept: KeptOptions) -> Iterator[str]:
    """What a run needed that its directory does not hold, and that is not where it was."""
    topology = given.topology
    if topology.data is not None and not Path(topology.data).is_dir():
        yield f"its data were in {topology.data}, which is not there (put them back)"
    for name, workload in topology.workloads.items():
        source = workload.model.source
        if names_a_file(workload.model) and not Path(source).is_file():
            yield f"the model of '{name}' was {source}, which is not there (put it back)"
        if source.startswith(_IN_REGISTRY) and (kept.registry is None or not Path(kept.registry).is_dir()):
            was = "another" if kept.registry is None else kept.registry
            yield f"the model of '{name}' was in the registry {was}, which is not there (put it back)"
    for federated in topology.federated:
        if federated.app is not None and not Path(federated.app).is_dir():
            yield f"the Flower app of '{federated.workload}' was in {federated.app}, which is not there (put it back)"
    if kept.resume is not None and not Path(kept.resume).is_dir():
        yield f"it went on from {kept.resume}, which is not there (put it back)"
    if kept.sensors:
        yield f"it read what was live, by {', '.join(kept.sensors)} (edgebench run it with --sensor)"
    if kept.tokens:
        yield "its containers were started by others (edgebench run it with --tokens)"
