"""Mosquitto brokers as their owners configure them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebench.clock import now_s, sleep_s

_TRIES = 5


@contextmanager
def mosquitto_with(program: Path, directory: Path, *lines: str, host: str = "127.0.0.1") -> Iterator[int]:
    """A broker with these lines in its configuration; the port of this loopback address that it listens at."""
    configuration, log = directory / "mosquitto.conf", directory / "mosquitto.log"
    for _ in range(_TRIES):
        with socket.create_server((host, 0)) as free:
            port = int(free.getsockname()[1])
        configuration.write_text("\n".join([f"listener {port} {host}", "user root", *lines, ""]))
        with log.open("ab") as output:
            process = subprocess.Popen([str(program), "-c", str(configuration)], stdout=output, stderr=output)
        try:
            if _answers(process, host, port):
                yield port
                return
        finally:
            process.terminate()
            process.wait()
    raise AssertionError(f"mosquitto did not start: {log.read_text()}")


def password_of(directory: Path, user: str, password: str) -> str:
    """The line for a broker that takes this login and no other."""
    file = directory / "passwords"
    file.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", str(file), user, password], check=True, capture_output=True)
    return f"allow_anonymous false\npassword_file {file}"


def _answers(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Whether the process listens; false where it ended, since another took the port after it was chosen."""
    until_s = now_s() + 30.0
    while now_s() < until_s and process.poll() is None:
        try:
            socket.create_connection((host, port), 1.0).close()
        except OSError:
            sleep_s(0.05)
        else:
            return process.poll() is None
    return False
