"""What only Flower can say of a topology's federations: is there such a strategy, does it take these arguments?"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.topology.deployment import Deployment, FederatedPlan
from edgebench.topology.wording import one_line


def check_federations(deployment: Deployment, file: str | Path) -> None:
    """Check strategies, and apps of the user's own. Raises one TopologyError with all problems."""
    problems = []
    for index, plan in enumerate(deployment.federated.values()):
        try:
            _check(plan)
        except EdgebenchError as error:
            field = "strategy" if plan.how.app is None else "app"
            problems.append(one_line(f"{file}: $.federated[{index}].{field}: {error}"))
    if problems:
        raise TopologyError(problems)


def _check(plan: FederatedPlan) -> None:
    how = plan.how
    _check_installed(plan)
    fewest = min([len(plan.asked), *map(len, plan.edges.values())]) if "edge" in how.aggregate else len(plan.asked)
    if how.min_replies > fewest:
        raise EdgebenchError(f"min_replies {how.min_replies} is more than the {fewest} that are asked (lower it)")
    if how.app is not None:
        from edgebench.federated.flower.apps import load_app

        load_app(Path(how.app)).configured(how.config)
    elif how.mode != "buffered":
        from edgebench.federated.flower.strategies import check_strategy, cloud_fraction

        name = how.strategy.name
        if "edge" in how.aggregate and name.startswith("DifferentialPrivacyClientSide"):
            raise EdgebenchError(f"'{name}' clips on devices, which edges hide from it (use the server-side one)")
        check_strategy(name, how.strategy.args, clients=len(plan.asked), fraction=cloud_fraction(how))


def _check_installed(plan: FederatedPlan) -> None:
    """What a federation needs besides the lab's packages is found out before anything starts."""
    if plan.how.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise EdgebenchError("engine ray needs Ray, which is not installed (pip install 'edgebench[ray]')")
    if plan.how.app is None and plan.how.fit.runtime == "torch" and importlib.util.find_spec("torch") is None:
        raise EdgebenchError("fit.runtime torch needs torch, which is not installed (pip install 'edgebench[torch]')")
