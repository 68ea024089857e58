"""`edge-node`: the node of one site. It needs the cloud's URL, its name and its token."""

from __future__ import annotations

import sys
from pathlib import Path

from edge_node.node import EdgeNode
from edgebench.fabric.control import ControlClient
from edgebench.fabric.node_process import NodeProcess, start_node
from edgebench.fabric.transfers import fetch


def main(argv: list[str] | None = None) -> int:
    """Run the node until its run ends; exit status 0 for an orderly end."""
    return start_node("edge-node", argv, _host)


def _host(process: NodeProcess, control: ControlClient, work_dir: Path) -> None:
    EdgeNode(process, _samples(control, process, work_dir)).run()


def _samples(control: ControlClient, process: NodeProcess, work_dir: Path) -> dict[str, dict[str, int]]:
    """How many samples each client has, by workload and device, where edges aggregate what the built-in app learns."""
    samples = {}
    for workload, plan in process.plan.federated.items():
        if plan.how.app is not None or not plan.edges_aggregate:
            continue
        from edgebench.federated.client_bundle import BUNDLE, read_info  # few edges have a need of its memory

        directory = work_dir / "bundles" / workload
        directory.mkdir(parents=True, exist_ok=True)
        fetch(control, f"/v1/bundles/{workload}/{BUNDLE}", directory / BUNDLE)
        samples[workload] = dict(zip(plan.clients, read_info(directory).samples, strict=True))
    return samples


if __name__ == "__main__":
    sys.exit(main())
