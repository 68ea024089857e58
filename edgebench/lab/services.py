"""Having systemd keep a command of ours running: written, enabled and started in one go."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgebench.errors import EXIT_USER_ERROR
from edgebench.lab.messages import LabError
from edgebench.lab.places import home_variable

_MODULES = "PYTHONPATH"
_RUNNING = Path("/run/systemd/system")
_SYSTEM_UNITS = Path("/etc/systemd/system")
_ASK_S = 60.0

# A mistake (EXIT_USER_ERROR) does not mend itself by another start; anything else may (EXIT_TRY_AGAIN, a signal, …).
_UNIT = """\
[Unit]
Description=edgebench: {about}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
{environment}Restart=always
RestartSec=5
RestartPreventExitStatus={user_error}
KillMode=mixed
TimeoutStopSec=30
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy={target}
"""


def check_systemd() -> None:
    """Raises LabError where no systemd runs. Asked before anything is done that cannot be undone."""
    if not _RUNNING.is_dir() or shutil.which("systemctl") is None:
        raise LabError("--install: no systemd runs here (leave it out, and start the command by what does)")


def environment() -> dict[str, str]:
    """What a service needs of this one's: where it finds its folders, and modules beside what is installed."""
    folders = [str(Path(each).absolute()) for each in os.environ.get(_MODULES, "").split(os.pathsep) if each]
    return home_variable() | ({_MODULES: os.pathsep.join(folders)} if folders else {})


def check_there(code: str, *words: str) -> None:
    """Run Python as the service will, in a process that lets go of what it has opened. Raises LabError with what it
    says where it fails."""
    kept = {name: value for name, value in os.environ.items() if name != _MODULES}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd="/",
            env=kept | environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"--install: {' '.join(words)}: no answer in {_ASK_S:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise LabError(f"--install: {said[-1]}")


def unit_text(about: str, arguments: Sequence[str], environment: Mapping[str, str], *, of_system: bool) -> str:
    """A unit that runs `edgebench` with these arguments."""
    program = Path(sys.argv[0]).resolve()
    start = [str(program)] if program.name == "edgebench" else [sys.executable, "-m", "edgebench.cli"]
    return _UNIT.format(
        about=about.replace("%", "%%"),
        command=" ".join(_quoted(word).replace("$", "$$") for word in [*start, *arguments]),
        environment="".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in environment.items()),
        user_error=EXIT_USER_ERROR,
        target="multi-user.target" if of_system else "default.target",
    )


def install(name: str, about: str, arguments: Sequence[str]) -> list[str]:
    """Write, enable and start the service; lines that say what was done. As root it is the system's, else the user's.

    Raises LabError with what systemd says where that fails.
    """
    check_systemd()
    of_system = os.geteuid() == 0
    folder = _SYSTEM_UNITS if of_system else Path.home() / ".config" / "systemd" / "user"
    folder.mkdir(parents=True, exist_ok=True)
    unit = folder / f"{name}.service"
    unit.write_text(unit_text(about, arguments, environment(), of_system=of_system), "utf-8")
    control = ["systemctl"] if of_system else ["systemctl", "--user"]
    _run([*control, "daemon-reload"])
    _run([*control, "enable", unit.name])
    _run([*control, "restart", unit.name])
    said = [f"{unit}: enabled and started (its log: {'journalctl' if of_system else 'journalctl --user'} -u {name})"]
    if not of_system:
        user = getpass.getuser()
        try:
            _run(["loginctl", "enable-linger", user])
        except LabError:
            said.append(f"it ends when {user} logs out, until somebody says: sudo loginctl enable-linger {user}")
    return said


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"--install: {' '.join(command)}: {error}") from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split()) or f"status {done.returncode}"
        raise LabError(f"--install: {' '.join(command)}: {said}")


def _quoted(word: str) -> str:
    """A word as systemd reads it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if not word or any(char in word for char in " \t'\"\\;") else escaped
