"""Files of placements."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgebench.decoding import from_json
from edgebench.errors import EdgebenchError
from edgebench.placement.placed import Placement
from edgebench.placement.stream_placed import StreamPlacement
from edgebench.topology.overrides import json_path
from edgebench.topology.shape import ShapeError, typed
from edgebench.topology.wording import one_line

_KINDS: dict[str, type[Placement] | type[StreamPlacement]] = {
    "placement": Placement,
    "stream-placement": StreamPlacement,
}


def read_placement(path: Path) -> Placement | StreamPlacement:
    """Of jobs, or of stream workloads. Raises EdgebenchError, in a line that begins with the file."""
    try:
        document = from_json(path.read_bytes())
        kind = _KINDS.get(str(document.get("kind"))) if isinstance(document, dict) else None
        if kind is None:
            raise EdgebenchError(f"{path}: no placement (edgebench place --out writes one)")
        return typed(document, kind)
    except FileNotFoundError as error:
        raise EdgebenchError(f"{path}: no such file") from error
    except OSError as error:
        raise EdgebenchError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise EdgebenchError(one_line(f"{path}: no placement: {error} (edgebench place --out writes one)")) from error
    except ValueError as error:  # such a path cannot be
        raise EdgebenchError(one_line(f"{path}: cannot be read: {error}")) from error
    except ShapeError as error:
        raise EdgebenchError(one_line(f"{path}: {json_path(error.steps)}: {error.problem}")) from error


def written(placement: Placement | StreamPlacement) -> str:
    """A placement as a file."""
    return msgspec.json.format(msgspec.json.encode(placement), indent=1).decode() + "\n"
