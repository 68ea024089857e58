"""The names on the wire.

A device publishes `…/sample` at its site's broker and gets `…/decision` there. An edge passes cloud-placed work on
at the cloud's broker under its own name, as `…/forward`, and gets `…/answer`: so the same names serve when one
broker is both.
"""

from __future__ import annotations

ANY = "+"
"""Stands for every node in a topic that is subscribed to."""

NOW = "now"
"""Stands for the run that goes on, for devices without our software, which do not know its name."""


def sample(run_id: str, device: str, workload: str) -> str:
    """Device to its site."""
    return f"eb/{run_id}/{device}/{workload}/sample"


def decision(run_id: str, device: str, workload: str) -> str:
    """Site to the device."""
    return f"eb/{run_id}/{device}/{workload}/decision"


def forward(run_id: str, edge: str, workload: str) -> str:
    """Edge to the cloud: a sample of one of its devices."""
    return f"eb/{run_id}/{edge}/{workload}/forward"


def answer(run_id: str, edge: str, workload: str) -> str:
    """Cloud to the edge: the decision on a forwarded sample."""
    return f"eb/{run_id}/{edge}/{workload}/answer"


def trial(run_id: str, edge: str, workload: str) -> str:
    """Edge to the cloud, where that may decide instead: a copy of a sample, and what tells how long the way is."""
    return f"eb/{run_id}/{edge}/{workload}/trial"


def tried(run_id: str, edge: str, workload: str) -> str:
    """Cloud to the edge: what a trial took there."""
    return f"eb/{run_id}/{edge}/{workload}/tried"


def models(run_id: str, workload: str) -> str:
    """Retained at the cloud's broker: the manifest of the workload's model."""
    return f"eb/{run_id}/models/{workload}"


def site_models(run_id: str, edge: str, workload: str) -> str:
    """Retained at the site's broker: the same manifest, passed on by the edge to its devices."""
    return f"eb/{run_id}/{edge}/models/{workload}"


def status(run_id: str, node: str) -> str:
    """Retained: `online` or, by last will, `offline`."""
    return f"eb/{run_id}/{node}/status"


def asks(run_id: str, node: str) -> str:
    """Retained, where durability is promised: an edge to its devices, or the cloud to its edges. Whenever it is another
    one, they are to send again what is undecided."""
    return f"eb/{run_id}/{node}/asks"


def echo(run_id: str, node: str) -> str:
    """An emulated edge, or cloud, to itself, at its own broker."""
    return f"eb/{run_id}/{node}/echo"


def fl_down(run_id: str, workload: str, edge: str, node: str) -> str:
    """Cloud to a federated client, at the cloud's broker: by way of its edge, or the edge itself."""
    return f"eb/{run_id}/fl/{workload}/{edge}/{node}/down"


def fl_up(run_id: str, workload: str, edge: str, node: str) -> str:
    """The way back of `fl_down`."""
    return f"eb/{run_id}/fl/{workload}/{edge}/{node}/up"


def fl_status(run_id: str, workload: str, edge: str, node: str) -> str:
    """Retained at the cloud's broker: a device's status, passed on by its edge."""
    return f"eb/{run_id}/fl/{workload}/{edge}/{node}/status"


def fl_site_down(run_id: str, workload: str, device: str) -> str:
    """Site to a federated client, at the site's broker."""
    return f"eb/{run_id}/fl/{workload}/{device}/down"


def fl_site_up(run_id: str, workload: str, device: str) -> str:
    """The way back of `fl_site_down`."""
    return f"eb/{run_id}/fl/{workload}/{device}/up"


def covers(allowed: str, wanted: str) -> bool:
    """Whether a filter takes in whatever a topic or another filter does. allowed: without `#`."""
    levels, asked = allowed.split("/"), wanted.split("/")
    return len(levels) == len(asked) and all(level in (each, ANY) for level, each in zip(levels, asked, strict=True))
