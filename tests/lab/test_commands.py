"""The commands, as processes: served, invited, joined, listed, removed; and what a mistake says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgebench
from edgebench.cli import main
from edgebench.clock import now_s
from edgebench.fabric.brokers.ports import Reservation
from edgebench.lab.messages import MachineInfo
from edgebench.lab.serving import find
from tests.lab.labs import Lab, command, eventually


class Bench:
    """A server, and boards by their name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []
        self._held = Reservation("127.0.0.1")  # nobody else is given it while the server is away
        self.server = self.start("server", "lab", "serve", "--listen", f"127.0.0.1:{self._held.port}")

    def start(self, home: str, *words: str) -> subprocess.Popen[str]:
        process = command(self.folder / home, *words)
        self.processes.append(process)
        return process

    def ask(self, home: str, *words: str) -> tuple[int, str, str]:
        process = self.start(home, *words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def machines(self) -> dict[str, MachineInfo]:
        return {info.name: info for info in edgebench.lab_list()}

    def end(self, process: subprocess.Popen[str], how: int = signal.SIGTERM) -> str:
        process.send_signal(how)
        return process.communicate(timeout=30)[1]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                self.end(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        self._held.release()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("EDGEBENCH_HOME", str(tmp_path / "server"))
    made = Bench(tmp_path)
    eventually(find, 30.0)
    yield made
    made.close()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().rstrip("\n")


def test_a_board_joins_by_the_line_that_is_printed_and_stays_over_restarts_of_either_side(bench: Bench) -> None:
    said = line_of(bench.server)
    url = said.split()[5]
    assert said.startswith(f"the lab is served at {url} (its memory: {bench.folder}/server/lab)")
    status, out, err = bench.ask("server", "lab", "invite", "--as", "device", "--for", "15m")
    assert (status, err) == (0, "")
    _install, join = out.splitlines()
    assert not set("'\"") & set(out)
    program, *words = join.split()
    assert (program, words[:3]) == ("edgebench", ["join", url, "--token"])

    pipe = bench.folder / "door"
    os.mkfifo(pipe)
    pi = bench.start("pi", *words, "--name", "pi", "--sensor", f"door=pipe:{pipe}")
    assert line_of(pi) == f"{url}: this machine is in the lab, as 'pi' (as a device)"
    assert line_of(pi) == f"door reads pipe:{pipe}"
    eventually(lambda: bench.machines()["pi"].present)

    bench.end(bench.server, signal.SIGKILL)
    assert "trying again" in line_of(pi)
    bench.server = bench.start("server", "lab", "serve")
    while "trying again" in (said := line_of(pi)):
        pass
    assert said == f"{url}: the lab is heard again"
    eventually(lambda: find() and bench.machines()["pi"].present, 30.0)

    assert bench.end(pi) == ""
    assert pi.returncode == 0
    assert not bench.machines()["pi"].present
    pi = bench.start("pi", "join", url)
    assert line_of(pi) == f"{url}: this machine is in the lab, as 'pi' (as a device)"
    assert line_of(pi) == f"door reads pipe:{pipe}"  # it is kept
    eventually(lambda: bench.machines()["pi"].present, 30.0)
    bench.end(pi)


def test_the_list_says_who_is_there_and_the_removed_are_out(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = bench.ask("server", "lab", "invite", "--json")
    join = json.loads(out)["join"].split()[1:]
    pi = bench.start("pi", *join, "--name", "pi")
    eventually(lambda: "pi" in bench.machines() and bench.machines()["pi"].offset is not None, 30.0)
    assert main(["lab", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "machine",
        "for",
        "arch",
        "cores",
        "MB",
        "edgebench",
        "python",
        "clock",
        "ms",
        "seen",
        "runs",
    ]
    assert row.split()[:4] == ["pi", "any", os.uname().machine, str(len(os.sched_getaffinity(0)))]
    assert re.search(r" [+-]\d+\.\d{3} ± \d+\.\d{3} ", row)
    assert row.endswith("now")
    assert main(["lab", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ([each["name"] for each in told["machines"]], told["refused"]) == (["pi"], {})

    status, _, err = bench.ask("other", *join)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("the token was used at ")
    assert err.endswith(" by 'pi' (another: edgebench lab invite, on the lab's server)\n")

    began_s = now_s()
    assert main(["lab", "remove", "pi"]) == 0
    err = pi.communicate(timeout=30)[1]
    assert now_s() - began_s < 8.0
    assert pi.returncode == 2
    assert err.splitlines()[-1].startswith("this machine was removed from the lab: join with --token")
    # One of its connections heard that it was removed; another that was asking something then was refused.
    removed = {"a machine that was removed": 1}
    assert main(["lab", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line for line in lines if line != "refused: a machine that was removed: 1"] == ["refused: a token: used: 1"]
    assert main(["lab", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["machines"] == []
    assert listed["refused"] in ({"a token: used": 1}, {"a token: used": 1, **removed})
    assert main(["lab", "remove", "pi"]) == 2
    assert capsys.readouterr().err == "pi: no machine of the lab (there are: none)\n"


def test_a_machine_that_is_in_the_lab_already_keeps_its_name_and_the_token(bench: Bench) -> None:
    _, out, _ = bench.ask("server", "lab", "invite")
    first = out.splitlines()[-1].split()[1:]
    pi = bench.start("pi", *first, "--name", "pi")
    eventually(lambda: "pi" in bench.machines() and bench.machines()["pi"].present, 30.0)
    bench.end(pi)
    _, out, _ = bench.ask("server", "lab", "invite")
    second = out.splitlines()[-1].split()[1:]
    pi = bench.start("pi", *second)
    assert line_of(pi).endswith("this machine was in the lab before, and the token is not used up")
    eventually(lambda: bench.machines()["pi"].present, 30.0)
    qi = bench.start("qi", *second, "--name", "qi")
    eventually(lambda: "qi" in bench.machines(), 30.0)
    bench.end(qi)
    assert list(bench.machines()) == ["pi", "qi"]


def test_mistakes_are_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEBENCH_HOME", str(tmp_path))
    get = "get one by `edgebench lab invite`, on the lab's server"
    form = "write https://HOST:PORT, as edgebench lab invite prints it"
    url = "https://127.0.0.1:9"
    for words, said in (
        (("lab", "list"), f"no lab is served on this computer ({tmp_path}/lab): start it by `edgebench lab serve`"),
        (("lab", "invite"), f"no lab is served on this computer ({tmp_path}/lab): start it by `edgebench lab serve`"),
        (
            ("lab", "remove", "x"),
            f"no lab is served on this computer ({tmp_path}/lab): start it by `edgebench lab serve`",
        ),
        (
            ("lab", "serve", "--listen", "x:1"),
            "--listen x:1: 'x' is no IP address of this computer (write HOST:PORT, HOST or :PORT)",
        ),
        (("join", url), f"{url}: this machine is in no lab yet: join with --token ({get})"),
        (("join", "http://127.0.0.1", "--token", "x"), f"http://127.0.0.1: no address of a lab ({form})"),
        (("join", url, "--token", "x"), f"--token: is no whole token of a lab ({get})"),
        (("join", url, "--token", "e" + "a" * 56), f"{url}: the lab does not answer: Connection refused"),
    ):
        assert main(list(words)) == 2
        assert capsys.readouterr() == ("", f"{said}\n")


def test_a_time_of_more_digits_than_any_is_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "invite", "--for", f"{'9' * 400}d"]) == 2
    assert capsys.readouterr().err.endswith("d': no time (write 90s, 15m, 2h or 1d)\n")


def test_a_device_only_board_gets_lines_without_quotes(bench: Bench) -> None:
    out_folder = bench.folder / "esp-1"
    status, out, err = bench.ask("server", "lab", "invite", "--device-only", "esp-1", "--out", str(out_folder))
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"cd {out_folder}; export XDG_CONFIG_HOME=.",
        "mosquitto_sub -t eb/now/esp-1/WORKLOAD/decision &",
        "mosquitto_pub -t eb/now/esp-1/WORKLOAD/sample -f sample.json",
    ]
    assert (out_folder / "device.key").exists()
    assert main(["lab", "invite", "--device-only", "esp-1", "--out", str(out_folder)]) == 2


def test_a_token_may_come_by_the_environment_and_a_file_tells_that_the_lab_is_heard(lab: Lab, tmp_path: Path) -> None:
    home = tmp_path / "pi"
    process = command(home, "join", lab.url, "--name", "pi", EDGEBENCH_TOKEN=lab.token())
    try:
        eventually((home / "machine" / "heard").exists, 60.0)
        eventually(lambda: lab.info("pi").present)
        assert lab.info("pi").name == "pi"
    finally:
        process.terminate()
        process.communicate(timeout=60)
