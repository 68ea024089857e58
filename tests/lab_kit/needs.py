"""What a test needs of the machine that it runs on."""

from __future__ import annotations

import os
import shutil

import pytest

SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
"""Where an administrator's programs are, too."""


def need_root_and(*programs: str, packages: str = "util-linux iproute2 mount") -> None:
    """Root's rights and these programs; a line says which of them is missing. CI must have them all."""
    if os.geteuid() != 0:
        _lacks("needs root's rights, for namespaces")
    for program in programs:
        if shutil.which(program, path=SYSTEM_PATH) is None:
            _lacks(f"no {program} in PATH (on Debian: apt install {packages})")


def _lacks(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
