"""Lines from a program, a named pipe and a serial port (a pseudo-terminal)."""

from __future__ import annotations

import os
import sys
import tty
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from device_agent.sensors.lines import LineParser, Pipe, Program
from edgebench.fabric.sensors import SensorError
from tests.device_agent.sensors.feeding import WAIT_S, choice, read


def test_lines_of_csv_and_json_say_the_same() -> None:
    parser = LineParser()
    assert parser.parse("# a comment") is None
    assert parser.parse("1, 2") == ["1", "2"]
    assert parser.parse("1;2") == parser.parse("1\t2") == parser.parse("1 2") == ["1", "2"]
    assert parser.parse("[1, 2]") == [1, 2]
    assert parser.parse('{"a": 1}') == {"a": 1}
    assert parser.parse("\ufeff") is None
    assert parser.parse("{broken") == ["{broken"]
    deep = "[" * 100_000 + "]" * 100_000
    assert parser.parse(deep) == [deep]


def test_a_line_that_is_no_csv_is_left_to_who_fits_it() -> None:
    parser = LineParser()
    assert parser.parse("12,30\r13,31") == ["12,30\r13,31"]
    long = "1," + "2" * 200_000
    assert parser.parse(long) == [long]
    assert parser.parse("12,30") == ["12", "30"]


def test_a_first_line_of_names_says_which_cell_is_which() -> None:
    parser = LineParser()
    assert parser.parse("time,warmth,light") is None
    assert parser.parse("12:00,20.5,7") == {"time": "12:00", "warmth": "20.5", "light": "7"}
    assert parser.parse("1,2") == ["1", "2"]


def test_a_programs_lines_are_read_and_it_ends_with_all_that_it_started(tmp_path: Path) -> None:
    script = tmp_path / "sense.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid)\n"
        "while True:\n    print('1,2'); time.sleep(0.01)\n"
    )
    program = Program(choice(f"program:{sys.executable} {script}", tmp_path))
    with closing(program), read(program) as got:
        child = int(got.get(timeout=WAIT_S)[0])
        assert got.get(timeout=WAIT_S) == ["1", "2"]
        assert psutil.pid_exists(child)
    assert not psutil.pid_exists(child)


def test_a_program_that_ends_no_line_is_no_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_agent.sensors.lines._LONGEST_BYTES", 1 << 20)
    (tmp_path / "sense.py").write_text("import sys\nwhile True: sys.stdout.write('12.5\\r' * 1000)\n")
    program = Program(choice(f"program:{sys.executable} {tmp_path / 'sense.py'}", tmp_path))
    with closing(program), read(program) as got:
        assert str(got.get(timeout=WAIT_S)) == "a line of more than 1,048,576 bytes"


def test_a_program_that_ends_says_how(tmp_path: Path) -> None:
    program = Program(choice(f"program:{sys.executable} -c 'print(7); raise SystemExit(3)'", tmp_path))
    with closing(program), read(program) as got:
        assert got.get(timeout=WAIT_S) == ["7"]
        ended = got.get(timeout=WAIT_S)
    assert isinstance(ended, SensorError)
    assert str(ended) == "the program has ended (status 3)"


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SensorError, match="no program 'no-such'"):
        Program(choice("program:no-such --fast", tmp_path))


def test_writers_of_a_pipe_may_come_and_go(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    pipe = Pipe(choice("pipe:fifo", tmp_path))
    with closing(pipe), read(pipe) as got:
        for number in range(2):
            with (tmp_path / "fifo").open("w") as writer:
                writer.write(f"{number},1\n{number},2\n")
            assert [got.get(timeout=WAIT_S) for _ in range(2)] == [[str(number), "1"], [str(number), "2"]]


def test_a_file_is_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SensorError, match="no named pipe"):
        Pipe(choice("pipe:file", tmp_path))


def test_a_serial_port_is_read_raw(tmp_path: Path) -> None:
    board, port = os.openpty()
    tty.setraw(board)
    try:
        serial = Pipe(choice(f"serial:{os.ttyname(port)}@115200", tmp_path))
        with closing(serial), read(serial) as got:
            os.write(board, b'{"warmth": 21}\r\n3;4\r\n')
            assert [got.get(timeout=WAIT_S) for _ in range(2)] == [{"warmth": 21}, ["3", "4"]]
        with pytest.raises(SensorError, match="no speed of 7 baud"):
            Pipe(choice(f"serial:{os.ttyname(port)}@7", tmp_path))
    finally:
        os.close(board)
        os.close(port)


def test_what_is_no_serial_port_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SensorError, match="no serial port"):
        Pipe(choice(f"serial:{tmp_path / 'file'}", tmp_path))
    with pytest.raises(SensorError, match="there is no"):
        Pipe(choice("serial:/dev/ttyNOWHERE", tmp_path))
