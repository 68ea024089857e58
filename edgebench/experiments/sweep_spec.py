"""The file of a sweep: what is the same in all its cells, and what is not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgebench.errors import TopologyError
from edgebench.results.sweeps import Best, Settings
from edgebench.seeds import rng_for
from edgebench.topology.deployment import SIMULATE
from edgebench.topology.fields import Name, Strict
from edgebench.topology.loading import document_of, unseen_in
from edgebench.topology.overrides import json_path
from edgebench.topology.shape import ShapeError, typed
from edgebench.topology.wording import did_you_mean, one_line

PLACEMENT, POLICY = "placement", "policy"
"""Settings that are no fields of a topology: the file of a placement, and the name of a policy that makes one."""


class Ranking(Strict, frozen=True):
    """What tells which settings are better: a figure, as `edgebench compare --json` calls it."""

    figure: str
    best: Best = "lowest"


class Across(Strict, frozen=True):
    """Where the best value of the setting `between` changes, as the setting `along`, a number, grows."""

    along: str
    between: str


class Range(Strict, frozen=True):
    """Numbers between two, both included; whole ones where both are whole. scale: `log`, and their logarithms are
    equally likely."""

    low: int | float
    high: int | float
    scale: Literal["linear", "log"] = "linear"


class RandomSearch(Strict, frozen=True):
    """Settings that are drawn by chance, from `seed`: of each path a value, independently of all others. tries: so many
    of them; more of them begin with the same ones."""

    tries: Annotated[int, Meta(ge=2, le=100_000)]
    ranges: dict[str, Range] = msgspec.field(default_factory=dict)
    values: dict[str, Annotated[tuple[Any, ...], Meta(min_length=1)]] = msgspec.field(default_factory=dict)
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


class SweepSpec(Strict, frozen=True):
    """A sweep. topology: a file beside this one, or one that ships. set: `PATH=VALUE` for all cells.

    grid: path -> values, all of which are combined with all others. list: settings one by one, each combined with the
    whole grid. search: settings by chance instead of both, of which with each further seed the better half is run, by
    `rank`. seeds: of each of these; without any, the topology's own. calibrate: with the executor `simulate`, run
    directories that say what things take, before profiles do, from this file's folder; also where a policy places
    workloads. front: figures that are good together, at least two. objective, at_most: of what a policy places, as
    `edgebench place` has them.
    """

    schema: Literal[1]
    name: Name
    topology: str
    executor: str = "local"
    set: tuple[str, ...] = ()
    grid: dict[str, Annotated[tuple[Any, ...], Meta(min_length=1)]] = msgspec.field(default_factory=dict)
    list: tuple[dict[str, Any], ...] = ()
    search: RandomSearch | None = None
    seeds: tuple[Annotated[int, Meta(ge=0, le=2**63 - 1)], ...] = ()
    rank: Ranking | None = None
    calibrate: tuple[str, ...] = ()
    front: dict[str, Best] = msgspec.field(default_factory=dict)
    crossings: Across | None = None
    objective: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()


def read_spec(path: Path) -> SweepSpec:
    """Read it. Raises TopologyError with the place."""
    document = document_of(path)
    try:
        spec = typed(document, SweepSpec)
    except ShapeError as error:
        place = json_path(error.steps)
        also = unseen_in(path).at(place, str(error), document)
        raise TopologyError([one_line(f"{path}: {place}: {error}{also}")]) from error
    if len(set(spec.seeds)) < len(spec.seeds):
        raise TopologyError([f"{path}: $.seeds: one of them stands there twice (name each once)"])
    for problem in _problems(spec):
        also = unseen_in(path).at(problem.partition(":")[0], problem, document)
        raise TopologyError([one_line(f"{path}: {problem}{also}")])
    for index, listed in enumerate(spec.list):
        if both := sorted(listed.keys() & spec.grid.keys()):
            raise TopologyError([one_line(f"{path}: $.list[{index}]: '{both[0]}' is in the grid, too (remove one)")])
    return spec


def _problems(spec: SweepSpec) -> Iterator[str]:
    """What fields say of each other."""
    by_policy = POLICY in _varied(spec)
    if spec.calibrate and spec.executor != SIMULATE and not by_policy:
        yield "$.calibrate: real runs need none (remove it, or write executor: simulate)"
    for field in ("objective", "at_most"):
        if getattr(spec, field) and not by_policy:
            yield f"$.{field}: nothing is placed by a policy (remove it, or vary policy)"
    if spec.search is not None:
        yield from _of_search(spec, spec.search)
    if len(spec.front) == 1:
        yield "$.front: one figure alone has no front (name two, or use rank)"
    if spec.crossings is not None:
        settings = _varied(spec)
        for field in ("along", "between"):
            named = getattr(spec.crossings, field)
            if named not in settings:
                yield f"$.crossings.{field}: '{named}' is not varied{did_you_mean(named, settings)}"
        values = [*spec.grid.get(spec.crossings.along, ()), *(each.get(spec.crossings.along) for each in spec.list)]
        if any(isinstance(each, bool) or not isinstance(each, int | float) for each in values if each is not None):
            yield f"$.crossings.along: '{spec.crossings.along}' has a value that is no number"
        if spec.rank is None:
            yield "$.crossings: of which figure? (add rank)"


def _varied(spec: SweepSpec) -> dict[str, None]:
    """The paths of all settings that are not the same in all cells."""
    sought = () if spec.search is None else (*spec.search.values, *spec.search.ranges)
    return dict.fromkeys((*spec.grid, *(path for listed in spec.list for path in listed), *sought))


def _of_search(spec: SweepSpec, search: RandomSearch) -> Iterator[str]:
    if spec.grid or spec.list:
        yield "$.search: beside a grid or a list (put their values into search.values)"
    if spec.rank is None:
        yield "$.search: for which figure? (add rank)"
    if spec.crossings is not None:
        yield "$.crossings: a search tries no two places with the same settings (write a grid)"
    if not (search.ranges or search.values):
        yield "$.search: nothing is varied (add ranges, or values)"
    if "seed" in search.ranges.keys() | search.values.keys():
        yield "$.search: 'seed' is varied, which tells how far chance goes (write seeds)"
    for path in sorted(search.ranges.keys() & search.values.keys()):
        yield f"$.search.values: '{path}' is in the ranges, too (remove one)"
    for path, each in search.ranges.items():
        if not each.low < each.high:
            yield f"$.search.ranges.{path}: {each.low:g} is not below {each.high:g} (give low and high)"
        if each.scale == "log" and each.low <= 0:
            yield f"$.search.ranges.{path}.low: {each.low:g} has no logarithm (give more than 0)"


def settings_of(spec: SweepSpec) -> Iterator[tuple[Settings, int | None]]:
    """What is set in each cell besides what is in all, and its seed; in the order in which they are run: all settings
    with the first seed come first."""
    if spec.search is not None:
        tried = [_drawn(spec.search, number) for number in range(spec.search.tries)]
        yield from ((settings, seed) for seed in spec.seeds or (None,) for settings in tried)
        return
    grid = [dict(zip(spec.grid, values, strict=True)) for values in itertools.product(*spec.grid.values())]
    for seed in spec.seeds or (None,):
        for listed, point in itertools.product(spec.list or ({},), grid):
            yield {**listed, **point}, seed


def _drawn(search: RandomSearch, number: int) -> Settings:
    """The n-th settings of a search."""
    found: Settings = {}
    for path, values in search.values.items():
        found[path] = values[rng_for(search.seed, "search", path, number).integers(len(values))]
    for path, each in search.ranges.items():
        found[path] = _between(each, rng_for(search.seed, "search", path, number).random())
    return found


def _between(each: Range, share: float) -> int | float:
    """A number of a range: so much of it, in [0, 1), is below. Four digits tell one from another."""
    whole = isinstance(each.low, int) and isinstance(each.high, int)
    low, high = (each.low - 0.5, each.high + 0.5) if whole else (each.low, each.high)
    found = low * (high / low) ** share if each.scale == "log" else low + share * (high - low)
    near = round(found) if whole else float(f"{found:.4g}")
    return min(max(near, each.low), each.high)


def overrides_of(spec: SweepSpec, settings: Settings, seed: int | None) -> list[str]:
    """As `--set` has them, but for what places the whole."""
    fields = ((path, value) for path, value in settings.items() if path not in (PLACEMENT, POLICY))
    given = [*spec.set, *(f"{path}={msgspec.json.encode(value).decode()}" for path, value in fields)]
    return given if seed is None else [*given, f"seed={seed}"]
