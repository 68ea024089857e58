"""A run as a compose file: a network a site, the server in all of them, a volume for each part's token.

Written for the Compose specification, as `docker compose` and Debian's docker-compose 1.29 read it.
Source: https://github.com/compose-spec/compose-spec
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebench.containers.exported import (
    DATA_FOLDER,
    RUNS_FOLDER,
    TOKEN_FOLDER,
    TOKENS_FOLDER,
    TOPOLOGY_FOLDER,
    Exported,
    Program,
    part_program,
    server_program,
)
from edgebench.containers.plan import SERVER

Fields = dict[str, Any]

_USER = "${USER_ID:?see README.md}"
_DATA = "${DATA:?see README.md}"
_BEGINS_WITHIN = "5m"
_ENDS_WITHIN = "2m"


def compose_file(exported: Exported) -> Fields:
    """What compose.yaml says. Paths are relative to its folder."""
    tokens = {part.name: f"token-{part.name}" for part in exported.parts}
    server = _service(
        exported,
        server_program(),
        exported.sites,
        [
            _bound("./topology", TOPOLOGY_FOLDER, read_only=True),
            _bound("./runs", RUNS_FOLDER, read_only=False),
            *([_bound(_DATA, DATA_FOLDER, read_only=True)] if exported.with_data else []),
            *(f"{volume}:{TOKENS_FOLDER}/{part}" for part, volume in tokens.items()),
        ],
    )
    server["healthcheck"]["start_period"] = _BEGINS_WITHIN  # in which today's Docker looks every 5 s
    server["stop_grace_period"] = _ENDS_WITHIN  # to write the report
    parts = {
        part.name: _service(exported, part_program(part), part.sites, [f"{tokens[part.name]}:{TOKEN_FOLDER}:ro"])
        for part in exported.parts
    }
    for part in parts.values():  # so where the server cannot begin, none waits for it
        part["depends_on"] = {SERVER: {"condition": "service_healthy"}}
    # In memory, gone with the containers, and its user's alone.
    in_memory = {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": f"uid={_USER},mode=0700,size=64k"}}
    return {
        "services": {SERVER: server, **parts},
        "networks": {site: {"internal": True} for site in exported.sites},
        "volumes": dict.fromkeys(tokens.values(), in_memory),
    }


def _service(exported: Exported, program: Program, networks: Sequence[str], volumes: list[str | Fields]) -> Fields:
    limits = program.limits
    memory = {} if limits.memory_bytes is None else dict.fromkeys(("mem_limit", "memswap_limit"), limits.memory_bytes)
    return {
        "image": f"{exported.images[program.kind]}-{_USER}",
        "build": {
            "context": f"./images/{program.kind}",
            "network": "none",
            "args": {"USER_ID": _USER, "BASE_IMAGE": f"${{BASE_IMAGE:-{exported.base_image}}}"},
        },
        "command": list(program.arguments),
        "hostname": limits.hostname,
        "user": f"{_USER}:{_USER}",
        "read_only": True,
        "init": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": limits.processes,
        **memory,
        **({"environment": dict(limits.environment)} if limits.environment else {}),
        "tmpfs": [f"/tmp:rw,noexec,nosuid,nodev,size={limits.tmp_bytes}"],  # noqa: S108  (the container's)
        "healthcheck": {
            "test": ["CMD-SHELL", limits.health.replace("$", "$$")],
            "interval": f"{limits.health_every_s}s",
            "timeout": "10s",
            "retries": 3,
        },
        "networks": list(networks),
        "volumes": volumes,
    }


def _bound(source: str, target: str, *, read_only: bool) -> Fields:
    return {"type": "bind", "source": source, "target": target, "read_only": read_only}


def readme(exported: Exported) -> str:
    """For a stranger."""
    data = "echo DATA=/where/the/data/is >> .env      # its folder, which is only read\n" if exported.with_data else ""
    rows = "\n".join(
        f"| `{part.name}` | {'an edge' if part.kind == 'edge' else 'devices'}: {', '.join(part.nodes)} "
        f"| {', '.join(part.sites)} | {'-' if part.memory_mb is None else f'{part.memory_mb:,} MB'} |"
        for part in exported.parts
    )
    return f"""\
# {exported.name}, in containers

A run of edgebench's topology `{exported.name}`: {len(exported.parts) + 1} containers that find each other, run once,
and end by themselves with a report. Nothing is needed but Docker with compose (`docker compose`, or `docker-compose`
1.29), on a computer with {exported.arch} processors.

```sh
mkdir -p runs
echo USER_ID=$(id -u) > .env
{data}docker compose up
```

When the prompt is back, the report is `runs/<time>-{exported.name}/report.html`, beside it the figures, `result.json`;
the last lines of `server` say them, too, and whether they can be trusted. The first time, images are made, which takes
some minutes. The same command runs it again; `docker compose down --volumes --rmi all` removes all but `runs`.

`USER_ID` is as whom all containers run, and who owns the report. It is not root's 0: as root, say `chown 10001 runs`
and `echo USER_ID=10001 > .env`.

Where `server` cannot begin, no other container is started: `docker compose logs server` says why.

## What is in it

| container | hosts | networks | memory |
|---|---|---|---|
| `server` | the cloud: control plane, training, its broker; the lab that the others join | all | - |
{rows}

`topology/topology.yaml` is what is run. Change it as you like, but for its nodes: the containers for them are in
`compose.yaml`. `images/` is what the images are made of: a Dockerfile and wheels each, so that a build needs no network
but for the base image, `{exported.base_image}`.

Where that cannot be had, any image with Python {exported.python} will do: `echo BASE_IMAGE=NAME >> .env`. One is made
on Debian, as root, by `debootstrap --variant=minbase --include=python3 RELEASE root` (bookworm has Python 3.11, trixie
3.13) and `tar -C root -c . | docker import - NAME`.

## Who may what

Nothing is published, and no network leads out of the computer. A site's containers reach each other and the server, no
other site. No container runs as root, can get more rights, or write to its root file system. There is no secret in this
folder: the server makes a certificate authority when it starts, and hands each container a token that serves once, by a
volume in memory which only those two see.
"""
