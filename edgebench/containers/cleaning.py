"""What runs in containers have left behind: found by its labels, and removed once its run is over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from edgebench.containers.commands import is_over
from edgebench.containers.engine import Engine
from edgebench.containers.made import COMMAND, IMAGE, RUN, Made
from edgebench.lab.places import runs_folder
from edgebench.lab.serving import LOCK, is_locked

_AT_ONCE = 8


class Cleaned(msgspec.Struct, frozen=True):
    """What was removed, by name. left: what belongs to runs that go on, or whose command cannot be seen from here."""

    containers: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    images: tuple[str, ...]
    labs: tuple[str, ...]
    left: tuple[str, ...]


def clean(engine: Engine, *, images: bool = False) -> Cleaned:
    """Remove what is of runs, and of images being built, whose command is gone. images: those of ours, too."""
    found = (engine.containers(COMMAND), engine.networks(COMMAND), engine.volumes(COMMAND))
    containers, networks, volumes = ([each for each in these if is_over(each.labels[COMMAND])] for these in found)
    _remove(engine, containers, networks, volumes)
    return Cleaned(
        containers=_names(containers),
        networks=_names(networks),
        volumes=_names(volumes),
        images=tuple(_images(engine)) if images else (),
        labs=tuple(_labs()),
        left=_names([each for these in found for each in these if not is_over(each.labels[COMMAND])]),
    )


def remove_run(engine: Engine, run_id: str) -> None:
    """Remove all that a run has made, whose command is gone or is about to go. Raises EngineError."""
    label = f"{RUN}={run_id}"
    _remove(engine, engine.containers(label), engine.networks(label), engine.volumes(label))
    shutil.rmtree(runs_folder() / run_id, ignore_errors=True)


def _names(made: list[Made]) -> tuple[str, ...]:
    return tuple(each.name for each in made)


def _remove(engine: Engine, containers: list[Made], networks: list[Made], volumes: list[Made]) -> None:
    """Side by side, since each container takes its time to end."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda each: engine.remove_container(each.id), containers))
        list(pool.map(lambda each: engine.remove_network(each.id), networks))
        list(pool.map(lambda each: engine.remove_volume(each.id), volumes))


def _images(engine: Engine) -> Iterator[str]:
    """Those that nothing stands on go first; so for as long as one goes."""
    names = engine.images(IMAGE)
    while True:
        stay = [name for name in names if not engine.remove_image(name)]
        yield from (name for name in names if name not in stay)
        if not stay or len(stay) == len(names):
            return
        names = stay


def _labs() -> Iterator[str]:
    """The labs of runs whose command is gone, which nobody has locked."""
    for folder in sorted(runs_folder().glob("*")):
        if not is_locked(folder / LOCK):
            shutil.rmtree(folder, ignore_errors=True)
            yield folder.name
