"""What the packages are that a Flower app says it needs, and how they stand to those that are installed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from edgebench.errors import EdgebenchError
from edgebench.federated.flower.apps import FlowerApp

_FLOWER = "flwr"
"""It is here, and what its extras bring is for engines that an app does not choose."""


def check_needs(app: FlowerApp) -> None:
    """Raises EdgebenchError where a package is not installed here, where the app and its clients run, with the line
    that installs it.

    Another version than the one that is asked for may do: see `other_versions`.
    """
    absent = [str(each) for each in _requirements(app) if not _is_installed(each)]
    if absent:
        mend = shlex.join(["pip", "install", *absent])
        raise EdgebenchError(f"{app.folder}: the app needs {', '.join(absent)}, not installed on this machine ({mend})")


def other_versions(app: FlowerApp) -> Iterator[str]:
    """In words, where another version is installed than the app asks for."""
    for each in _requirements(app):
        if _is_installed(each) and not each.specifier.contains(found := metadata.version(each.name), prereleases=True):
            yield f"the app asks for {each}, and {each.name} {found} is installed"


def _requirements(app: FlowerApp) -> list[Requirement]:
    """Those that this machine and this Python are meant by."""
    found = []
    for line in app.dependencies:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            why = str(error).splitlines()[0]
            raise EdgebenchError(f"{app.folder}: the app's dependency {line!r}: {why}") from None
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


def _is_installed(requirement: Requirement) -> bool:
    try:
        needed = metadata.distribution(requirement.name).requires or []
    except metadata.PackageNotFoundError:
        return False
    if requirement.name == _FLOWER:
        return True
    brought = [
        each
        for extra in requirement.extras
        for each in map(Requirement, needed)
        if each.marker is not None and each.marker.evaluate({"extra": extra}) > each.marker.evaluate({"extra": ""})
    ]
    return all(map(_is_installed, brought))
