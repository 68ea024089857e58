"""`edgebench profile` with a broker, a node and processes that are really there; only the model costs a stated time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgebench.cli import main
from edgebench.errors import EdgebenchError, FabricError, ModelError
from edgebench.experiments.profiling import measuring, messages, summary
from edgebench.experiments.profiling.kit import SAMPLES, Kit, Wanted
from edgebench.experiments.profiling.measuring import ProfileOptions, _read, profile_machine
from edgebench.experiments.profiling.model_child import Timed
from edgebench.experiments.profiling.node_child import ModelInUse
from edgebench.fabric.child_process import ChildProcess
from edgebench.fabric.records import HostUsage
from edgebench.inference.fake import FakeModel
from edgebench.inference.spec import Manifest, TensorSpec
from edgebench.topology.profile_files import read_profile
from edgebench.topology.profiles import Measured, ModelKey, Times
from tests.manifests import manifest_of
from tests.profiles import SLOW, profile

MESSAGES = 12
"""Of so many, the quicker halves tell what is measured from other work of a machine that tests share."""


def kit(tmp_path: Path, task: str, latency_s: float, side: int = 8) -> Path:
    """A folder with a light model of a task that takes so long, whatever the batch, and its pictures."""
    folder = tmp_path / "kit" / task
    folder.mkdir(parents=True)
    content = msgspec.json.encode(FakeModel(latency_s))
    sample = TensorSpec("uint8", (side, side, 3))
    described = manifest_of(content, task=task, input=sample, batches=(1, 8, 32), outputs=3)
    (folder / "light-float32.model").write_bytes(content)
    (folder / "light-float32.json").write_bytes(msgspec.json.encode(described))
    (folder / "light-step").mkdir()
    (folder / "light-step" / "step.failed").write_text("nobody learns it\n")
    values = np.arange(4 * side * side * 3) % 256
    np.save(folder / SAMPLES, values.astype(np.uint8).reshape(4, side, side, 3))
    return tmp_path / "kit"


class Silent:
    """A meter that answers three times: as it is opened, and at the ends of the time without work."""

    source = "a plug"

    def __init__(self) -> None:
        self._answers = iter((0.0, 0.0, 1.0))

    def joules(self) -> float:
        try:
            return next(self._answers)
        except StopIteration:
            raise OSError("no answer") from None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure less often than anybody would."""
    monkeypatch.setattr(measuring, "_QUICK_MESSAGES", MESSAGES)
    monkeypatch.setattr(measuring, "_QUICK_SUSTAINED_S", 0.5)
    monkeypatch.setattr(measuring, "_QUICK_TIMED_S", 1.0)
    monkeypatch.setattr(measuring, "_IDLE_S", 0.1)
    monkeypatch.setattr(messages, "VALUES", (4, 4096))
    monkeypatch.setattr(messages, "_WARM_UP", 1)
    # Of so few messages other work, which tests have always beside them, may well disturb some of each try.
    monkeypatch.setattr(messages, "_TRIES", 12)


@pytest.mark.usefixtures("few")
def test_a_machine_is_measured_and_its_profile_is_one_that_a_topology_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "here.json"
    models = kit(tmp_path, "face-recognition", 0.004)
    words = ["--task", "face-recognition", "--quick", "--models", str(models), "--name", "here", "--out", str(out)]
    assert main(["profile", *words, "--meter", f"{__name__}:Silent", "--json"]) == 0
    printed = capsys.readouterr()
    found = read_profile(out)
    assert json.loads(printed.out) == json.loads(out.read_bytes())
    assert "face-recognition, light, fake, float32: batches of 1, 8" in printed.err
    assert found.name == "here"
    assert isinstance(found.origin, Measured)
    assert found.origin.others is not None
    assert 0 <= found.origin.others <= 1
    times = found.model_times(ModelKey("face-recognition", "light", "fake", "float32"))
    assert list(times) == [1, 8]
    for each in times.values():
        assert each.us[0] >= 4_000
        assert each.n >= 8
    cost = found.picture_cost("face-recognition", 75)
    assert cost is not None
    assert cost.compress.mean_us > 0
    assert cost.decompress.mean_us > 0
    for qos in (0, 1):
        small, large = found.message_costs(qos)
        assert (small.size_bytes < 100, 16_000 < large.size_bytes < 17_000) == (True, True)
        for message in (small, large):
            assert message.relay.us[0] > 0
            assert message.relay.n == MESSAGES
    assert found.wake is not None
    assert found.wake.us[0] > 0
    assert found.sustained is not None
    assert found.power is None
    assert "power is not measured: a plug: OSError: no answer" in printed.err


PARTS = """
import sys, time
for line in sys.argv[2:]:
    print(line, flush=True)
if sys.argv[1] == "hangs":
    time.sleep(600)
sys.exit(sys.argv[1] == "dies")
"""


@pytest.mark.parametrize(
    ("end", "why"), [("ends", None), ("hangs", "not done after 3 s"), ("dies", "the process that ran it ended (")]
)
def test_what_was_found_of_a_slow_model_is_kept_whatever_becomes_of_the_rest(end: str, why: str | None) -> None:
    def read(*lines: str) -> Timed:
        return _read(ChildProcess([sys.executable, "-c", PARTS, end, *lines], stdout=subprocess.PIPE), 3.0)

    found = read(
        '{"took_ns": {"1": [5, 6]}, "first_ms": 2.0, "memory_mb": 3.0}', '{"took_ns": {"8": [9]}, "memory_mb": 4.0}'
    )
    assert msgspec.structs.replace(found, error=None) == Timed({"1": [5, 6], "8": [9]}, 2.0, 4.0)
    assert (found.error is None) if why is None else (found.error or "").startswith(why)
    with pytest.raises(ModelError, match=re.escape(why or "the process that ran it ended (")):
        read()
    found = read('{"took_ns": {"1": [5]}}', '{"error": "no such operation"}')
    assert (found.took_ns, found.error) == ({"1": [5]}, "no such operation")


@pytest.mark.usefixtures("few")
def test_a_size_that_was_not_measured_is_told_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(child: ChildProcess, timeout_s: float = 60.0) -> Timed:
        found = _read(child, timeout_s)
        took_ns = {what: each for what, each in found.took_ns.items() if what != "8"}
        return msgspec.structs.replace(found, took_ns=took_ns, error="too little memory")

    monkeypatch.setattr(measuring, "_read", cut_off)
    told: list[str] = []
    models = kit(tmp_path, "face-recognition", 0.001)
    options = ProfileOptions(tasks=("face-recognition",), quick=True, models=models, name="here", tell=told.append)
    key = ModelKey("face-recognition", "light", "fake", "float32")
    assert list(profile_machine(options).model_times(key)) == [1]
    assert [line for line in told if "batches of 8: not measured: too little memory" in line] != []
    told.clear()
    assert list(profile_machine(replace(options, max_batch=7)).model_times(key)) == [1]
    assert [line for line in told if "not measured" in line or "batches of 1, 8" in line] == []


@pytest.mark.usefixtures("few")
def test_messages_that_other_work_disturbed_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = kit(tmp_path, "face-recognition", 0.001) / "face-recognition"
    described = msgspec.json.decode((folder / "light-float32.json").read_bytes(), type=Manifest)
    model = ModelInUse(str(folder / "light-float32.model"), described, str(folder / SAMPLES))
    told: list[str] = []
    disturbed = [0]

    def rest_of(whole_ns: Sequence[float], part_ns: Sequence[float]) -> Times:
        if disturbed[0]:
            disturbed[0] -= 1
            raise FabricError("the machine did other work")
        return summary.times_of(whole_ns)  # as if nothing ever disturbed them

    monkeypatch.setattr(messages, "rest_of", rest_of)
    monkeypatch.setattr(messages, "VALUES", (4,))
    monkeypatch.setattr(messages, "QOS", (1,))
    monkeypatch.setattr(messages, "_TRIES", 3)
    disturbed[0] = 1
    found = messages.measured_messages(MESSAGES, told.append, model)
    assert [(cost.qos, cost.relay.n) for cost in found.costs] == [(1, MESSAGES)]
    assert found.wake.n == MESSAGES
    assert told[1] == "the machine did other work; once more"
    monkeypatch.setattr(messages, "_LONG_S", 0.0)
    monkeypatch.setattr(messages, "_LEAST", MESSAGES - 2)
    assert [cost.relay.n for cost in messages.measured_messages(MESSAGES, told.append, model).costs] == [MESSAGES - 2]
    disturbed[0] = 3
    with pytest.raises(FabricError, match="other work"):
        messages.measured_messages(MESSAGES, told.append, model)


@pytest.mark.usefixtures("few")
def test_messages_are_measured_as_large_as_the_samples_and_as_large_as_is_asked(tmp_path: Path) -> None:
    models = kit(tmp_path, "face-recognition", 0.001, side=160)
    of_task = ProfileOptions(tasks=("face-recognition",), quick=True, models=models, name="here")
    found = profile_machine(replace(of_task, message_bytes=(100_000, 300_000)))
    for qos in (0, 1):
        _, _, of_samples, *more = (cost.size_bytes for cost in found.message_costs(qos))
        assert 160 * 160 * 3 < of_samples < 160 * 160 * 3 + 512
        # A decision has 262,144 bytes at most, so what larger ones take says nothing of it.
        for size, least in zip(more, (100_000, 4 * 65_536, 300_000), strict=True):
            assert least <= size < least + 100


@pytest.mark.usefixtures("few")
def test_large_messages_of_a_slow_board_are_measured_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kit(tmp_path, "face-recognition", 0.001) / "face-recognition"
    described = msgspec.json.decode((folder / "light-float32.json").read_bytes(), type=Manifest)
    model = ModelInUse(str(folder / "light-float32.model"), described, str(folder / SAMPLES))
    monkeypatch.setattr(messages, "rest_of", lambda whole_ns, part_ns: summary.times_of(whole_ns))
    monkeypatch.setattr(messages, "VALUES", (4,))
    monkeypatch.setattr(messages, "QOS", (1,))
    monkeypatch.setattr(messages, "_WARM_UP", MESSAGES // 2)
    monkeypatch.setattr(messages, "_LONG_S", 0.0)
    monkeypatch.setattr(messages, "_LONGEST_S", 0.0)
    monkeypatch.setattr(messages, "_FEWEST", 3)
    (cost,) = messages.measured_messages(MESSAGES, lambda _: None, model).costs
    assert cost.relay.n == 3  # after a single message to warm up, since that took so long


@pytest.mark.parametrize(("foreign", "share", "lines"), [(0.07, 0.09, 0), (0.21, 0.23, 1), (None, None, 0)])
def test_what_others_took_of_the_machine_is_kept_and_told_where_it_is_too_much(
    foreign: float | None, share: float | None, lines: int
) -> None:
    told: list[str] = []
    usage = HostUsage(1, 0.5, stolen=0.02, foreign=foreign)
    assert measuring.others_share(usage, told.append) == share
    assert len(told) == lines
    assert all(line.startswith("others took 23% of the processor") for line in told)


def test_a_profile_that_nobody_named_a_file_for_is_kept_and_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEBENCH_HOME", str(tmp_path / "home"))
    told: list[str] = []
    measuring.write(ProfileOptions(keep=True, tell=told.append), SLOW)
    kept = tmp_path / "home" / "profiles" / "slow-board.json"
    assert read_profile(kept) == SLOW
    assert told == [f"kept as {kept}: 'profile: slow-board' in a topology emulates this machine"]
    with pytest.raises(EdgebenchError, match="--name slow-board: is kept already"):
        profile_machine(ProfileOptions(keep=True, name="slow-board"))
    measuring.write(ProfileOptions(keep=True, out=tmp_path / "out.json"), profile(name="another"))
    assert read_profile(tmp_path / "out.json").name == "another"
    assert [file.name for file in kept.parent.iterdir()] == ["slow-board.json"]


def test_a_damaged_description_of_a_model_is_named(tmp_path: Path) -> None:
    folder = kit(tmp_path, "icu-death", 0.0)
    (folder / "icu-death" / "light-float32.json").write_bytes(b'{"x": ' + b"[" * 100_000)
    with pytest.raises(EdgebenchError, match=r"light-float32\.json: no description of a model: nested too deeply"):
        list(Kit(folder).models(Wanted(("icu-death",), ("light",), ("float32",), ())))


def test_a_mistake_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    for options, expected in (
        (ProfileOptions(tasks=("no-task",)), "no task 'no-task'"),
        (ProfileOptions(formats=("float8",)), "--format float8: no such number format"),
        (ProfileOptions(out=tmp_path / "nowhere" / "x.json"), "--out .*: no folder"),
        (ProfileOptions(out=tmp_path / "x.profile"), "--out .*: a profile is JSON"),
        (ProfileOptions(name="Pi 4"), "--name Pi 4: no name of a profile"),
        (ProfileOptions(train_batches=(0,)), "--train-batch 0: no number of samples"),
        (ProfileOptions(message_bytes=(100_000_000,)), "--message-bytes 100000000: no size of a message"),
        (ProfileOptions(max_batch=0), "--max-batch 0: no number of samples"),
        (ProfileOptions(name="host"), "--name host: means a node that is not emulated"),
        (ProfileOptions(meter="watts"), "--meter watts: give module:attribute"),
    ):
        with pytest.raises(EdgebenchError, match=expected):
            profile_machine(options)
