"""The files that `profile` names: what they say, and each mistake in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgebench.errors import TopologyError
from edgebench.topology.loading import load
from edgebench.topology.model import Fit
from edgebench.topology.profile_files import profile_file, profile_problems, read_profile, written
from edgebench.topology.profiles import ByDataSheet, ModelKey, Power
from tests.profiles import SLOW, inference, message, profile
from tests.topology.sound import SOUND

SHEET = """\
kind: data-sheet
schema: 1
name: pi-9
cores: 4
memory_mb: 4096
like: slow.json
times_slower: 2.5
source: "https://example.org/pi-9, table 2"
power: {idle_w: 2, active_w: 6.5, source: "the same, table 3"}
"""


def read(tmp_path: Path, content: bytes | str, name: str = "slow.json") -> Any:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_profile(file)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    content = written(SLOW)
    assert read(tmp_path, content) == SLOW
    assert b'"us": [20000.0]' in content


def test_a_data_sheet_scales_every_time_of_another_profile_and_says_so(tmp_path: Path) -> None:
    read(tmp_path, written(profile(inference=(msgspec.structs.replace(inference(1, 20.0), first_ms=30.0),))))
    found = read(tmp_path, SHEET, "pi-9.yaml")
    assert (found.name, found.cores, found.memory_mb) == ("pi-9", 4, 4096)
    assert found.origin == ByDataSheet("slow-board", 2.5, "https://example.org/pi-9, table 2")
    assert found.power == Power(2.0, 6.5, "the same, table 3")
    assert found.model_times(ModelKey("icu-death", "light", "fake", "float32"))[1].us == (50_000.0,)
    assert found.inference[0].first_ms == 75.0
    cost = found.message_costs(1)[0]
    assert (cost.relay.us, cost.receive.us, cost.send.us) == ((2500.0,), (5000.0,), (7500.0,))
    # A run directory keeps the whole, which needs no other file.
    assert read(tmp_path, written(found), "kept.json") == found


def test_a_cost_that_was_not_measured_is_absent_and_not_zero() -> None:
    assert SLOW.message_costs(0) == ()
    assert SLOW.picture_cost("icu-death", 75) is None
    assert SLOW.training_cost("icu-death", "light", Fit(), 32) is None
    assert SLOW.model_times(ModelKey("icu-death", "heavy", "fake", "float32")) == {}


BROKEN = {
    "nested too deeply": (b"[" * 100_000, "slow.json: nested too deeply"),
    "no JSON": (b"{", "slow.json: Input data was truncated"),
    "a list": (b"[]", "slow.json: no profile (write one with edgebench profile --out FILE)"),
    "no kind": (b'{"schema": 1}', "slow.json: $: field 'kind' is missing (give one of profile, data-sheet)"),
    "another kind": (b'{"kind": "machine"}', "slow.json: $.kind: 'machine' is not one of profile, data-sheet"),
    "unknown field": (
        written(SLOW).replace(b'"cores"', b'"core"'),
        "slow.json: $: unknown field 'core' (did you mean 'cores'?)",
    ),
    "no times": (
        written(SLOW).replace(b"[20000.0]", b"[]"),
        "slow.json: $.inference[0].times.us: is empty (give at least one)",
    ),
    "times that do not ascend": (
        written(profile(inference=(inference(1, 1.0, 2.0),))).replace(b"[1000.0,2000.0]", b"[2000.0,1000.0]"),
        "slow.json: $.inference[0].times.us: does not ascend (sort it)",
    ),
    "a negative time": (
        written(SLOW).replace(b"[20000.0]", b"[-1.0]"),
        "slow.json: $.inference[0].times.us: not all are times in µs from 0 to 1e12",
    ),
    "the same twice": (
        written(profile(messages=(message(100, 1, 1, 1), message(100, 2, 2, 2)))),
        "slow.json: $.messages[1]: is of what $.messages[0] is of (remove one)",
    ),
    "the name of none": (
        written(profile(name="host")),
        "slow.json: $.name: 'host' means a node that is not emulated (name it otherwise)",
    ),
    "less power when busy": (
        written(profile(power=Power(3.0, 2.0, "a meter", measured=True))),
        "slow.json: $.power.active_w: 2 W, less than 3 W when idle",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_broken_profile_is_one_line_that_names_the_place(wrong: str, tmp_path: Path) -> None:
    content, expected = BROKEN[wrong]
    with pytest.raises(TopologyError) as caught:
        read(tmp_path, content)
    assert caught.value.problems == [f"{tmp_path}/{expected}"]


def test_a_data_sheet_of_what_nobody_measured_is_refused(tmp_path: Path) -> None:
    sheet = tmp_path / "pi-9.yaml"
    for like, expected in (
        ("slow.json", f"{sheet}: $.like: {tmp_path}/slow.json: no such file"),
        ("pi-9.yaml", f"{sheet}: $.like: {sheet} was not measured either (name one that was)"),
        ("host", f"{sheet}: $.like: 'host' is no file (name that of a profile)"),
        ("~no-such-user/slow.json", f"{sheet}: $.like: {tmp_path}/~no-such-user/slow.json: no such file"),
    ):
        with pytest.raises(TopologyError) as caught:
            read(tmp_path, SHEET.replace("slow.json", like), "pi-9.yaml")
        assert caught.value.problems == [expected]


def test_a_data_sheet_follows_the_profile_that_it_scales_when_that_is_measured_anew(tmp_path: Path) -> None:
    read(tmp_path, written(profile(inference=(inference(1, 20.0),))))
    assert read(tmp_path, SHEET, "pi-9.yaml").inference[0].times.us == (50_000.0,)
    read(tmp_path, written(profile(inference=(inference(1, 400.0),))))
    assert read_profile(tmp_path / "pi-9.yaml").inference[0].times.us == (1_000_000.0,)


def test_a_profile_whose_path_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pi-9.yaml").write_text(SHEET.replace("slow.json", '"a\\0b.json"'))
    for path, place in (("a\0b.json", "a\\x00b.json"), ("pi-9.yaml", f"pi-9.yaml: $.like: {tmp_path}/a\\x00b.json")):
        with pytest.raises(TopologyError) as caught:
            read_profile(tmp_path / path)
        (problem,) = caught.value.problems
        assert problem.startswith(f"{tmp_path}/{place}: cannot be read: ")


def test_a_profile_is_found_by_its_name_beside_the_topology_and_where_measured_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBENCH_HOME", str(tmp_path / "home"))
    kept = tmp_path / "home" / "profiles" / "pi-4.json"
    kept.parent.mkdir(parents=True)
    topology = tmp_path / "ward.yaml"
    assert profile_file("pi-4", topology) == "pi-4"
    kept.write_bytes(written(profile(name="pi-4")))
    assert profile_file("pi-4", topology) == str(kept)
    (tmp_path / "pi-4.yaml").write_text(SHEET)
    assert profile_file("pi-4", topology) == str(tmp_path / "pi-4.yaml")
    assert profile_file("pi-4", tmp_path / "pi-4.yaml") == str(kept)
    assert profile_file("host", topology) == "host"
    topology.write_text(SOUND.replace("tier: cloud}", "tier: cloud, profile: pi-5}"))
    problems = list(profile_problems(load(topology)))
    assert problems == [("$.nodes.cloud.profile", "no profile 'pi-5' (did you mean 'pi-4'?)")]
