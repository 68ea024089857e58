"""Runs that are made once: each is kept by a key of all that decides what is run, so that a sweep, or a search, that
was ended goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgebench import __version__
from edgebench.decoding import from_json
from edgebench.errors import EdgebenchError
from edgebench.fabric.digests import digest_of
from edgebench.results.comparison.settings import key_of
from edgebench.results.figures import Result
from edgebench.results.rundir import (
    DEPLOYMENT,
    OBSERVATIONS,
    RECORDS,
    RESULT,
    load_deployment,
    read_result,
    write_json,
)
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Topology

CELLS = "cells"


def cell_key(deployment: Deployment, topology: Topology, measured: Sequence[str] = ()) -> str:
    """Of all that decides what is run: the resolved deployment, what is in the files that it names, the machines that
    its nodes are to be on, the digests of what a simulation is calibrated by, and the version."""
    plain = _by_content(msgspec.to_builtins(msgspec.structs.replace(deployment, run_id="")))
    return hashlib.sha256(key_of([plain, topology.machines, *measured, __version__])).hexdigest()[:16]


def content_key(topology: Topology, beside: Sequence[str]) -> str:
    """Of what is in a topology, and in the files that it names, of what is told beside it, and the version."""
    plain = _by_content(msgspec.to_builtins(topology))
    return hashlib.sha256(key_of([plain, *beside, __version__])).hexdigest()[:16]


def _by_content(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _by_content(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_by_content(each) for each in value]
    if isinstance(value, str) and value.startswith("/") and Path(value).is_file():
        described = (Path(value), Path(f"{value}.json"))  # a model, and what may lie beside it
        return [digest_of(file) for file in described if file.is_file()]
    return value


def digests(run_dirs: Sequence[Path]) -> list[str]:
    """Of what is read of runs that say what things take. Raises EdgebenchError where one is none."""
    return [digest for run_dir in run_dirs for digest in _digests(run_dir)]


def _digests(run_dir: Path) -> Iterator[str]:
    load_deployment(run_dir)
    for name in (DEPLOYMENT, OBSERVATIONS, RECORDS):
        if (run_dir / name).is_file():
            yield digest_of(run_dir / name)


class _KeptRun(msgspec.Struct, frozen=True):
    """run: its directory. spoiled: those before it that said nothing, and why."""

    key: str
    run: str
    spoiled: dict[str, str]


class KeptRuns:
    """Those in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> tuple[Path, Result, dict[str, str]] | None:
        """The run of this key, what it came to, and those before it that said nothing -> why; None where there is none.

        Raises EdgebenchError where its file is damaged.
        """
        file = self._file(key)
        if not file.is_file():
            return None
        try:
            kept = from_json(file.read_bytes(), _KeptRun)
        except msgspec.DecodeError as error:
            raise EdgebenchError(f"{file}: says nothing of a run: {error} (remove it)") from error
        run_dir = self.folder / kept.run
        return (run_dir, read_result(run_dir), kept.spoiled) if (run_dir / RESULT).is_file() else None

    def keep(self, key: str, run_dir: Path, spoiled: Mapping[str, str]) -> None:
        """Keep a run in the folder that has come to its end."""
        self._file(key).parent.mkdir(parents=True, exist_ok=True)
        write_json(self._file(key), _KeptRun(key, run_dir.name, dict(spoiled)))

    def _file(self, key: str) -> Path:
        return self.folder / CELLS / f"{key}.json"
