"""A policy of a user's own, at `module:function`: it is called with a problem, and gives a tier for each thing that is
placed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgebench.errors import EdgebenchError, describe_error, home_of
from edgebench.topology.wording import listed

UsersOwn = Callable[[Any, np.random.Generator], list[Any]]


def users_own(name: str) -> UsersOwn:
    """The function, which is imported. Raises EdgebenchError where there is none; what is called, where it fails."""
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute or module_name.startswith("."):
        raise EdgebenchError(f"--policy {name}: give module:function")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            mend = "is it installed, or on PYTHONPATH?"
            raise EdgebenchError(f"--policy {name}: no module '{error.name}' ({mend})") from error
        raise EdgebenchError(f"--policy {name}: its module cannot be imported: {describe_error(error)}") from error
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        raise EdgebenchError(f"--policy {name}: module '{module_name}' has no function '{attribute}'")

    def call(problem: Any, rng: np.random.Generator) -> list[Any]:
        try:
            return list(function(problem, rng))
        except EdgebenchError:
            raise
        except (Exception, SystemExit) as error:
            raise EdgebenchError(f"--policy {name}: failed: {describe_error(error, home_of(module))}") from error

    return call


def refuse_other_number(name: str, tiers: Sequence[Any], wanted: int, singular: str) -> None:
    """Raises EdgebenchError where a policy gave another number of tiers than it was to."""
    if len(tiers) != wanted:
        gave = f"gave {len(tiers):,} tiers for {wanted:,} {singular}s (give one a {singular})"
        raise EdgebenchError(f"--policy {name}: {gave}")


def not_allowed(name: str, what: str, tier: Any, allowed: Sequence[str]) -> EdgebenchError:
    """What to say of a tier that something may not be on."""
    return EdgebenchError(f"--policy {name}: placed {what} on {str(tier)[:40]!r}, and it may be on {listed(allowed)}")
