"""What only Flower can say of a topology's federations: is there such a strategy, does it take these arguments?"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.federated.cohort import cloud_fraction, cohort_size
from edgebench.topology.deployment import Deployment, FederatedPlan
from edgebench.topology.model import Natural
from edgebench.topology.wording import one_line


def check_federations(deployment: Deployment, file: str | Path) -> None:
    """Check strategies, and apps of the user's own. Raises one TopologyError with all problems."""
    problems = []
    for index, plan in enumerate(deployment.federated.values()):
        path = f"$.federated[{index}]"
        problems += [one_line(f"{file}: {path}.{field}: {problem}") for field, problem in _fields(plan, deployment)]
        try:
            _check(plan)
        except EdgebenchError as error:
            field = "strategy" if plan.how.app is None else "app"
            problems.append(one_line(f"{file}: {path}.{field}: {error}"))
    if problems:
        raise TopologyError(problems)


def _fields(plan: FederatedPlan, deployment: Deployment) -> Iterator[tuple[str, str]]:
    """What single fields ask for that cannot be had: (field, problem)."""
    how = plan.how
    asked = {"the cloud": cohort_size(len(plan.asked), cloud_fraction(how))}
    if "edge" in how.aggregate:
        asked |= {edge: cohort_size(len(devices), how.fraction) for edge, devices in plan.edges.items()}
    who, fewest = min(asked.items(), key=lambda each: each[1])
    if how.min_replies > fewest:
        yield "min_replies", f"{how.min_replies} is more than the {fewest} that {who} asks in a round (lower it)"
    if how.app is None and isinstance(how.partition, Natural) and deployment.data is None:
        yield "partition", "nothing tells generated patients apart (give data, or take iid or dirichlet)"
    if how.engine == "ray" and importlib.util.find_spec("ray") is None:
        yield "engine", "ray needs Ray, which is not installed (pip install 'edgebench[ray]')"
    if how.app is None and how.fit.runtime == "torch" and importlib.util.find_spec("torch") is None:
        yield "fit.runtime", "torch is not installed (pip install 'edgebench[torch]')"


def _check(plan: FederatedPlan) -> None:
    how = plan.how
    if how.app is not None:
        from edgebench.federated.flower.apps import load_app

        load_app(Path(how.app)).configured(how.config)
    elif how.mode != "buffered":
        from edgebench.federated.flower.strategies import check_strategy

        name = how.strategy.name
        if "edge" in how.aggregate and name.startswith("DifferentialPrivacyClientSide"):
            raise EdgebenchError(f"'{name}' clips on devices, which edges hide from it (use the server-side one)")
        check_strategy(name, how.strategy.args, clients=len(plan.asked), fraction=cloud_fraction(how))
