"""Who may publish and subscribe what at the brokers of a run: its own topics, and of others what is meant for it.

A user is a node, by its name. The topics are those of `edgebench.fabric.topics`, and the filters those that nodes
subscribe to, since a broker may refuse a filter that reaches further than what is allowed.
"""

from __future__ import annotations

from edgebench.fabric import topics
from edgebench.fabric.brokers.settings import Permission
from edgebench.fabric.topics import ANY
from edgebench.topology.deployment import Deployment, FederatedPlan, NodePlan, boards_at
from edgebench.topology.profiles import HOST


def permissions_at(deployment: Deployment, site: str) -> dict[str, Permission]:
    """By user, at the broker of an edge's site or of the cloud.

    At a site: its edge, and the devices that are ever at it. At the cloud: the cloud itself, its federations included,
    and the edges.
    """
    if site == deployment.cloud:
        edges = {edge.name: _edge_at_cloud(deployment, edge.name) for edge in deployment.of_tier("edge")}
        return {site: _cloud(deployment), **edges}
    devices = {
        device.board or device.name: _board(deployment, device) if device.board else _device(deployment, device, site)
        for device in deployment.of_tier("device")
        if site in device.sites
    }
    return {site: _edge_at_site(deployment, site), **devices}


def _board(deployment: Deployment, device: NodePlan) -> Permission:
    """Of a device without our software, which speaks plain JSON: its own samples, and the decisions on them. It goes by
    its own name, in every run."""
    return _samples(deployment, topics.NOW, device.name, str(device.board))


def _samples(deployment: Deployment, run: str, device: str, name: str) -> Permission:
    travelling = _travelling(deployment, device)
    return Permission(
        publish=tuple(topics.sample(run, name, workload) for workload in travelling),
        subscribe=(topics.decision(run, name, ANY),) if travelling else (),
    )


def _device(deployment: Deployment, device: NodePlan, site: str) -> Permission:
    run, name = deployment.run_id, device.name
    samples = _samples(deployment, run, name, name)
    decides = any(plan.has_model(name) for plan in deployment.workloads.values())
    learns = [workload for workload, plan in _federated(deployment).items() if name in plan.clients]
    return Permission(
        publish=(
            *samples.publish,
            topics.status(run, name),
            *(topics.fl_site_up(run, workload, name) for workload in learns),
        ),
        subscribe=(
            topics.decision(run, name, ANY),
            *([topics.site_models(run, site, ANY)] if decides else ()),
            *_asks(deployment, site),
            *(topics.fl_site_down(run, workload, name) for workload in learns),
        ),
    )


def _edge_at_site(deployment: Deployment, edge: str) -> Permission:
    run = deployment.run_id
    federated = bool(_federated(deployment))
    boards = boards_at(deployment, edge)
    return Permission(
        publish=(
            topics.decision(run, ANY, ANY),
            *(topics.decision(topics.NOW, board, ANY) for board in boards),
            topics.site_models(run, edge, ANY),
            topics.status(run, edge),
            *_asks(deployment, edge),
            *_echo(deployment, edge),
            *([topics.fl_site_down(run, ANY, ANY)] if federated else ()),
        ),
        subscribe=(
            topics.sample(run, ANY, ANY),
            *_echo(deployment, edge),
            *(topics.sample(topics.NOW, board, ANY) for board in boards),
            *([topics.status(run, ANY), topics.fl_site_up(run, ANY, ANY)] if federated else ()),
        ),
    )


def _edge_at_cloud(deployment: Deployment, edge: str) -> Permission:
    run = deployment.run_id
    federated, tries = bool(_federated(deployment)), _tries(deployment)
    return Permission(
        publish=(
            topics.forward(run, edge, ANY),
            *([topics.trial(run, edge, ANY)] if tries else ()),
            topics.status(run, edge),
            *([topics.fl_up(run, ANY, edge, ANY), topics.fl_status(run, ANY, edge, ANY)] if federated else ()),
        ),
        subscribe=(
            topics.models(run, ANY),
            topics.answer(run, edge, ANY),
            *([topics.tried(run, edge, ANY)] if tries else ()),
            *_asks(deployment, deployment.cloud),
            *([topics.fl_down(run, ANY, edge, ANY)] if federated else ()),
        ),
    )


def _cloud(deployment: Deployment) -> Permission:
    run = deployment.run_id
    hops = (run, ANY, ANY, ANY)
    federated, tries = bool(_federated(deployment)), _tries(deployment)
    return Permission(
        publish=(
            topics.models(run, ANY),
            topics.answer(run, ANY, ANY),
            *([topics.tried(run, ANY, ANY)] if tries else ()),
            topics.status(run, deployment.cloud),
            *_asks(deployment, deployment.cloud),
            *_echo(deployment, deployment.cloud),
            *([topics.fl_down(*hops)] if federated else ()),
        ),
        subscribe=(
            topics.forward(run, ANY, ANY),
            *([topics.trial(run, ANY, ANY)] if tries else ()),
            *_echo(deployment, deployment.cloud),
            *([topics.fl_up(*hops), topics.fl_status(*hops), topics.status(run, ANY)] if federated else ()),
        ),
    )


def _tries(deployment: Deployment) -> bool:
    """Whether edges try what the cloud would take."""
    return any(plan.online is not None for plan in deployment.workloads.values())


def _asks(deployment: Deployment, node: str) -> list[str]:
    """Where a node asks for what is undecided, if it does."""
    return [] if deployment.durability == "none" else [topics.asks(deployment.run_id, node)]


def _echo(deployment: Deployment, node: str) -> tuple[str, ...]:
    """What an emulated node sends itself."""
    return () if deployment.nodes[node].profile == HOST else (topics.echo(deployment.run_id, node),)


def _travelling(deployment: Deployment, device: str) -> list[str]:
    """The workloads whose samples of a device are decided elsewhere."""
    return [name for name, plan in deployment.workloads.items() if plan.deciders.get(device, device) != device]


def _federated(deployment: Deployment) -> dict[str, FederatedPlan]:
    """The federations whose messages pass the brokers; other engines have ways of their own."""
    return {name: plan for name, plan in deployment.federated.items() if plan.how.engine == "mqtt"}
