"""Whether what is said of sensors on this machine is of nodes that a run has here."""

from __future__ import annotations

from collections.abc import Sequence

from edgebench.errors import EdgebenchError
from edgebench.fabric.sensors import SensorChoice, check_can_be_read
from edgebench.topology.deployment import HERE, Deployment
from edgebench.topology.wording import listed


def check_sensors(deployment: Deployment, choices: Sequence[SensorChoice]) -> None:
    """Raise EdgebenchError for one of which nothing would come."""
    for choice in choices:
        said = f"--sensor {choice.place}={choice.shown}"
        nodes = [node for node in deployment.of_tier("device") if choice.node in (node.name, node.group)]
        if not nodes:
            groups = sorted({node.group for node in deployment.of_tier("device")})
            raise EdgebenchError(f"{said}: there is no device '{choice.node}' (there are {listed(groups)})")
        workloads = {
            name for name, plan in deployment.workloads.items() if any(node.name in plan.sources for node in nodes)
        }
        if choice.workload is not None and choice.workload not in workloads:
            streams = f"it streams {listed(sorted(workloads))}" if workloads else "it streams none"
            raise EdgebenchError(f"{said}: '{choice.node}' does not stream '{choice.workload}' ({streams})")
        away = sorted({node.machine for node in nodes} - {HERE})
        if away:
            raise EdgebenchError(
                f"{said}: it runs on {listed(away)} (say it there: edgebench join … --sensor {choice.place}=…)"
            )
    check_can_be_read(choices)
