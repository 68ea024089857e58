"""`edge-node`: the node of one site. It needs the cloud's URL, its name and its token."""

from __future__ import annotations

import sys
from pathlib import Path

from edge_node.node import EdgeNode
from edgebench.fabric.control import ControlClient
from edgebench.fabric.node_process import NodeProcess, start_node


def main(argv: list[str] | None = None) -> int:
    """Run the node until its run ends; exit status 0 for an orderly end."""
    return start_node("edge-node", argv, _host)


def _host(process: NodeProcess, _control: ControlClient, _work_dir: Path) -> None:
    EdgeNode(process).run()


if __name__ == "__main__":
    sys.exit(main())
