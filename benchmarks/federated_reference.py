"""What `federated.py` holds edgebench's rounds against: the same Flower app without a network, the bytes alone, and
Flower's own deployment.

    python benchmarks/federated_reference.py app STAMPS CLIENTS VALUES ROUNDS
    python benchmarks/federated_reference.py superlink STAMPS DIRECTORY CLIENTS VALUES ROUNDS
    python benchmarks/federated_reference.py serve HOST PORT CLIENTS BYTES ROUNDS
    python benchmarks/federated_reference.py relay HOST PORT HOST PORT
    python benchmarks/federated_reference.py answer HOST PORT CLIENTS BYTES

`app` calls server and clients of `federated_app` in one process, message by message. `superlink` runs the app on a
SuperLink and as many SuperNodes, as they are installed, without TLS and accounts; its logs are in DIRECTORY. Both write
the file STAMPS.

The others are the three processes of the bytes alone: as many bytes to each of the clients, and as many back from each
as soon as it has them all, in messages of 64 KiB at QoS 0, by paho and nothing else. `serve` is at the broker of the
cloud, `answer` is all clients at the broker of the site, and `relay` passes messages on. `relay` and `answer` print
`ready` when they can begin; `serve` prints `{"round_s"}`, the seconds of each round.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from edgebench.clock import NS_PER_S, now_ns, now_s, sleep_s
from edgebench.fabric.guard import guarded

APP = Path(__file__).resolve().parent / "federated_app"
RUN_ID = 1
CHUNK_BYTES = 64 * 1024
LOCAL = "127.0.0.1"
PATIENCE_S = 300.0
POLL_S = 0.1


def app(stamps: str, clients: int, values: int, rounds: int) -> None:
    """The app by a grid that calls its clients, and nothing between."""
    from flwr.app import Context, RecordDict

    from edgebench.federated.flower.apps import ClientRunner, client_app, load_app, server_app
    from edgebench.federated.flower.grid import LocalGrid, identity
    from edgebench.federated.flower.messages import SERVER_NODE

    loaded = load_app(APP).configured({"clients": clients, "values": values, "rounds": rounds, "stamps": stamps})
    code, config = client_app(loaded), loaded.run_config
    nodes = [
        ClientRunner(code, run_id=RUN_ID, node_id=node, clients=clients, run_config=config, seed=7).reply
        for node in range(1, clients + 1)
    ]
    with identity(RUN_ID, SERVER_NODE):
        context = Context(RUN_ID, SERVER_NODE, {}, RecordDict(), dict(config))
        server_app(loaded)(LocalGrid(nodes, run_id=RUN_ID), context)


def superlink(stamps: str, directory: Path, clients: int, values: int, rounds: int) -> None:
    """The app on Flower's deployment, until its last round is over."""
    settings = f'clients={clients} values={values} rounds={rounds} stamps="{stamps}"'
    with _deployed(clients, directory) as (processes, environment):
        subprocess.run(
            [_program("flwr"), "run", str(APP), "benchmark", "--run-config", settings],
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=PATIENCE_S,
        )
        until_s = now_s() + PATIENCE_S
        while not Path(stamps).exists() or len(Path(stamps).read_text().splitlines()) <= rounds:
            if now_s() > until_s or any(each.poll() is not None for each in processes):
                raise SystemExit(f"Flower's deployment has not held {rounds} rounds; its logs are in {directory}")
            sleep_s(POLL_S)


@contextmanager
def _deployed(clients: int, directory: Path) -> Iterator[tuple[list[subprocess.Popen[bytes]], dict[str, str]]]:
    port, *node_ports = _free_ports(clients + 1)
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    environment |= {
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "NO_PROXY": LOCAL,
        "no_proxy": LOCAL,
    }
    link = [_program("flower-superlink"), "--insecure", "--host", LOCAL, "--port", str(port)]
    commands = {"home": [*link, "--disable-runtime-dependency-installation"]}
    for place, own_port in enumerate(node_ports):
        node = [_program("flower-supernode"), "--insecure", "--superlink", f"{LOCAL}:{port}"]
        node += ["--host", LOCAL, "--port", str(own_port)]
        commands[f"node-{place}"] = [*node, "--node-config", f"partition-id={place} num-partitions={clients}"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in commands.items():
            home = directory / name
            home.mkdir(parents=True)
            with (directory / f"{name}.log").open("wb") as log:
                own = {**environment, "FLWR_HOME": str(home)}
                process = subprocess.Popen(guarded(command), env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            processes.append(process)
            if name == "home":
                (home / "config.toml").write_text(
                    f'[superlink]\ndefault = "benchmark"\n[superlink.benchmark]\naddress = "{LOCAL}:{port}"\n'
                    "insecure = true\n"
                )
                _wait_for(port)
        yield processes, {**environment, "FLWR_HOME": str(directory / "home")}
    finally:
        _end(processes)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """End these, and what they have started."""
    families = [psutil.Process(each.pid) for each in processes if each.poll() is None]
    families += [child for each in families for child in each.children(recursive=True)]
    for process in processes:
        process.terminate()
    for left in psutil.wait_procs(families, timeout=5.0)[1]:
        left.kill()
    for process in processes:
        process.wait()


def _program(name: str) -> str:
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        raise SystemExit(f"no {name}: pip install flwr")
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        open_now = [stack.enter_context(socket.create_server((LOCAL, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in open_now]


def _wait_for(port: int) -> None:
    until_s = now_s() + PATIENCE_S
    while now_s() < until_s:
        try:
            socket.create_connection((LOCAL, port), POLL_S).close()
        except OSError:
            sleep_s(POLL_S)
        else:
            return
    raise SystemExit("the SuperLink does not come up")


def serve(host: str, port: int, clients: int, size_bytes: int, rounds: int) -> None:
    """Send to all clients, and wait until everything is back."""
    arrived = 0

    def received(_topic: str, payload: bytes) -> None:
        nonlocal arrived
        arrived += len(payload)

    client = _connected(host, port, "bytes/up/+", received)
    round_s = []
    for _ in range(rounds):
        arrived, start_ns = 0, now_ns()
        for number in range(clients):
            _send(client, f"bytes/down/{number}", size_bytes)
        while arrived < clients * size_bytes:
            client.loop(1.0)
        round_s.append((now_ns() - start_ns) / NS_PER_S)
    print(json.dumps({"round_s": round_s}), flush=True)


def relay(cloud_host: str, cloud_port: int, site_host: str, site_port: int) -> None:
    """Pass messages on, in both directions, until killed."""

    def passed_down(topic: str, payload: bytes) -> None:
        site.publish(topic, payload)

    cloud = _connected(cloud_host, cloud_port, "bytes/down/+", passed_down)
    site = _connected(site_host, site_port, "bytes/up/+", cloud.publish)
    print("ready", flush=True)
    sockets = {each: _socket(each) for each in (cloud, site)}
    while True:
        wanting = [transport for each, transport in sockets.items() if each.want_write()]
        readable, writable, _ = select.select(list(sockets.values()), wanting, [])
        for each, transport in sockets.items():
            if transport in readable:
                each.loop_read()
            if transport in writable:
                each.loop_write()


def answer(host: str, port: int, clients: int, size_bytes: int) -> None:
    """Be all clients, until killed."""
    arrived = [0] * clients

    def received(topic: str, payload: bytes) -> None:
        number = int(topic.rpartition("/")[2])
        arrived[number] += len(payload)
        if arrived[number] == size_bytes:
            arrived[number] = 0
            _send(client, f"bytes/up/{number}", size_bytes)

    client = _connected(host, port, "bytes/down/+", received)
    print("ready", flush=True)
    while True:
        client.loop(1.0)


def _send(client: paho.Client, topic: str, size_bytes: int) -> None:
    chunk = bytes(CHUNK_BYTES)
    for start in range(0, size_bytes, CHUNK_BYTES):
        client.publish(topic, chunk[: size_bytes - start])


def _connected(host: str, port: int, topic: str, on_message: Callable[[str, bytes], object]) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, clean_session=True)
    stands = False

    def subscribed(*_: object) -> None:
        nonlocal stands
        stands = True

    def received(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        on_message(message.topic, bytes(message.payload))

    client.on_message = received
    client.on_subscribe = subscribed
    client.connect(host, port)
    _socket(client).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.subscribe(topic)
    while not stands:
        client.loop(POLL_S)
    return client


def _socket(client: paho.Client) -> socket.socket:
    found = client.socket()
    assert isinstance(found, socket.socket)
    return found


def main(arguments: list[str]) -> None:
    """Be one of them."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # what was started has to be ended
    role, *given = arguments
    if role == "app":
        app(given[0], *map(int, given[1:]))
    elif role == "superlink":
        superlink(given[0], Path(given[1]), *map(int, given[2:]))
    elif role == "serve":
        serve(given[0], *map(int, given[1:]))
    elif role == "relay":
        relay(given[0], int(given[1]), given[2], int(given[3]))
    else:
        answer(given[0], *map(int, given[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
