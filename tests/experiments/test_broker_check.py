"""What a run sends over a broker of the user's, and what is said of one that does not carry it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgebench.experiments.broker_check import traffic
from edgebench.fabric.authority import Authority
from edgebench.topology import resolve
from edgebench.topology.deployment import Deployment
from edgebench.topology.model import Federated, NodeGroup, Online, Place, Placing, Poisson, Topology, Workload
from tests.fabric.mosquittos import mosquitto_with, password_of
from tests.system.running import SMALL, command, faults_of

STATES = {"eb/+/+/status"}
MODELS = {"eb/+/models/+"}
STREAM = {"eb/+/+/+/sample", "eb/+/+/+/decision"}
UPLINK = {"eb/+/+/+/forward", "eb/+/+/+/answer"}


def deployment(infer: str, *, qos: int = 1, learning: bool = False, online: bool = False) -> Deployment:
    topology = Topology(
        schema=1,
        name="t",
        nodes={
            "cloud": NodeGroup(tier="cloud"),
            "ward": NodeGroup(tier="edge", parent="cloud"),
            "bed": NodeGroup(tier="device", count=2, parent="ward"),
        },
        workloads={
            "w": Workload(task="icu-death", source="bed", load=Poisson(rate_hz=1.0), place=Place(infer=infer), qos=qos)  # type: ignore[arg-type]
        },
        place=Placing(online=Online() if online else None),
        federated=(Federated(workload="w", rounds=1),) if learning else (),
    )
    return resolve(topology, run_id="r", executor="local")


def patterns(infer: str, *, learning: bool = False, online: bool = False) -> set[str]:
    planned = deployment(infer, learning=learning, online=online)
    return {each.named.rpartition("(")[2].rstrip(")") for each in traffic(planned, {})}


@pytest.mark.parametrize(
    ("infer", "kinds"),
    [
        ("device", STATES | MODELS | {"eb/+/+/models/+"}),
        ("edge", STATES | MODELS | STREAM),
        ("cloud", STATES | MODELS | STREAM | UPLINK),
    ],
)
def test_each_kind_of_topic_that_a_placement_uses_is_tried(infer: str, kinds: set[str]) -> None:
    assert patterns(infer) == kinds


def test_what_is_placed_online_goes_to_the_cloud_as_well_and_is_tried_there() -> None:
    assert patterns("edge", online=True) == STATES | MODELS | STREAM | UPLINK | {"eb/+/+/+/trial", "eb/+/+/+/tried"}


def test_a_federation_adds_its_messages_on_both_sides_of_an_edge() -> None:
    assert patterns("edge", learning=True) - patterns("edge") == {
        "eb/+/fl/+/+/+/down",
        "eb/+/fl/+/+/+/up",
        "eb/+/fl/+/+/down",
        "eb/+/fl/+/+/up",
        "eb/+/fl/+/+/+/status",
    }


def test_what_is_sent_is_heard_by_the_filter_that_a_run_subscribes_to() -> None:
    for each in traffic(deployment("cloud", learning=True), {}):
        levels, heard = each.topic.split("/"), each.heard_on.split("/")
        assert len(levels) == len(heard)
        assert all(wanted in (level, "+") for level, wanted in zip(levels, heard, strict=True))


def test_samples_are_tried_at_the_quality_of_service_and_size_of_their_workload() -> None:
    sent = {each.named: each for each in traffic(deployment("edge", qos=0), {"w": 5000})}
    samples = sent["samples (eb/+/+/+/sample)"]
    assert (samples.qos, samples.size_bytes, samples.retained) == (0, 5000, False)
    models = sent["models (eb/+/models/+)"]
    assert (models.qos, models.retained) == (1, True)


def test_a_broker_that_forbids_the_topics_ends_the_command_in_one_line(mosquitto: Path, tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("user lab\ntopic readwrite sensors/#\n")
    lines = (password_of(tmp_path, "lab", "s3cret"), f"acl_file {tmp_path / 'acl'}")
    with mosquitto_with(mosquitto, tmp_path, *lines) as port:
        done = asked(tmp_path, f"mqtt://lab:s3cret@127.0.0.1:{port}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "access list" in line
    assert "s3cret" not in line
    assert not (tmp_path / "runs").exists()


def test_a_broker_that_drops_what_is_as_large_as_a_sample_ends_the_command_in_one_line(
    mosquitto: Path, tmp_path: Path
) -> None:
    with mosquitto_with(mosquitto, tmp_path, "allow_anonymous true", "message_size_limit 2048") as port:
        done = asked(tmp_path, f"mqtt://127.0.0.1:{port}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "limit of size" in line
    size = 48 * 76 * 4
    assert any(f"of {size + more:,}," in line for more in range(300))
    assert not (tmp_path / "runs").exists()


def test_a_broker_that_takes_too_few_connections_ends_the_command_in_one_line(mosquitto: Path, tmp_path: Path) -> None:
    with mosquitto_with(mosquitto, tmp_path, "allow_anonymous true", "max_connections 3") as port:
        done = asked(tmp_path, f"mqtt://127.0.0.1:{port}", SMALL, "--set", "nodes.bed.count=40")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert re.search(r"takes \d+ connections at once and no more", line)
    assert "the run needs 45 " in line  # of 40 devices, two edges with two each, and the cloud
    assert "max_connections" in line
    assert not (tmp_path / "runs").exists()


BEHIND_A_LINK = f"{SMALL}links:\n  - {{between: [bed, ward], latency_ms: 2}}\n"


def test_a_broker_over_tls_whose_certificate_nobody_vouches_for_ends_the_command_in_one_line(
    mosquitto: Path, tmp_path: Path
) -> None:
    with over_tls(mosquitto, tmp_path) as (url, _):
        done = asked(tmp_path, url, BEHIND_A_LINK)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "certificate verify failed" in line
    assert not (tmp_path / "runs").exists()


def test_a_broker_over_tls_carries_a_run_whose_links_are_emulated(mosquitto: Path, tmp_path: Path) -> None:
    # The relay listens at 127.0.0.1, and the certificate is good for 127.0.0.2 alone.
    with over_tls(mosquitto, tmp_path) as (url, vouching):
        done = asked(tmp_path, url, BEHIND_A_LINK, "--json", SSL_CERT_FILE=vouching)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert faults_of(result) == []
    assert result["links"]["bed-0 -> ward-0"]["up_bytes"] > 0


@contextmanager
def over_tls(mosquitto: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL of a broker, and the file with who vouches for its certificate."""
    trust = Authority.create(tmp_path / "authority").issue(tmp_path / "broker", "broker", ["127.0.0.2"])
    lines = (f"certfile {trust.certificate_file}", f"keyfile {trust.key_file}", "allow_anonymous true")
    with mosquitto_with(mosquitto, tmp_path, *lines, host="127.0.0.2") as port:
        yield f"mqtts://127.0.0.2:{port}", str(trust.ca_file)


def asked(
    tmp_path: Path, url: str, text: str = SMALL, *more: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    topology = tmp_path / "topology.yaml"
    topology.write_text(text)
    line = command(topology, tmp_path / "runs", "--broker", url, *more)
    return subprocess.run(line, capture_output=True, text=True, timeout=120.0, env={**os.environ, **environment})
