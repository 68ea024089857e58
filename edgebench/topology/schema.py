"""The JSON Schema of a topology file."""

from __future__ import annotations

from typing import Any

import msgspec

from edgebench.topology.model import Topology


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) by which an editor completes and checks a topology; descriptions are the records' own."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgebench topology, schema 1",
        **msgspec.json.schema(Topology),
    }
