from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.errors import TopologyError
from edgebench.topology import load, read_trace
from edgebench.topology.model import Trace
from edgebench.topology.strict_yaml import parse
from tests.topology.sound import edited


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"),
        ("010", 10),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("-0.5", -0.5),
        ("12", 12),
        ("True", True),
        ("'12'", "12"),
        ("~", None),
        ("", None),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
        ("[&a {x: 1}, *a]", [{"x": 1}, {"x": 1}]),
        ("\ufeffa: 1", {"a": 1}),
        ("a word\u00a0and another", "a word\u00a0and another"),
        ("'quoted\u200b'", "quoted\u200b"),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    parsed = parse(text.encode())

    assert (parsed, type(parsed)) == (value, type(value))


def test_what_an_alias_repeats_can_be_changed_alone() -> None:
    parsed = parse("[&a {x: 1}, *a]")

    assert isinstance(parsed, list)
    assert parsed[0] is not parsed[1]


def test_paths_are_taken_from_the_topologys_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab").mkdir()
    file = tmp_path / "lab" / "small.yaml"
    file.write_text(
        edited(
            ("schema: 1", "schema: 1\ndata: ../patients"),
            ("{kind: fixed, rate_hz: 2}", "{kind: trace, file: times.txt}\n    model: {source: death.tflite}"),
        )
    )
    monkeypatch.chdir(tmp_path)

    topology = load("lab/small.yaml")

    assert topology.data == f"{tmp_path}/lab/../patients"
    assert topology.workloads["risk"].load == Trace(file=f"{tmp_path}/lab/times.txt")
    assert topology.workloads["risk"].model.source == f"{tmp_path}/lab/death.tflite"


def test_words_that_name_no_file_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    for source in ("train", f"sha256:{'a' * 64}"):
        file.write_text(edited(("source: bed", f"source: bed\n    model: {{source: '{source}'}}")))
        assert load(file).workloads["risk"].model.source == source


def test_a_trace_is_its_times_without_comments(tmp_path: Path) -> None:
    file = tmp_path / "times.txt"
    file.write_text("\ufeff# seconds\n0\n0.5\n\n0.5\n2\n", "utf-8")

    assert read_trace(file) == [0.0, 0.5, 0.5, 2.0]


def test_a_file_that_may_not_be_read_is_a_mistake_too(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        load(tmp_path / "a\0b.yaml")
