"""The compute profiles that a node can be given.

`host` is this machine as it is, the others are boards, by their makers' data.
"""

from __future__ import annotations

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """A kind of machine. None is whatever the machine has."""

    name: str
    cores: int | None
    memory_mb: int | None


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("host", cores=None, memory_mb=None),
        Profile("raspberry-pi-3", cores=4, memory_mb=1024),  # Cortex-A53, 1.2 GHz
        Profile("raspberry-pi-4", cores=4, memory_mb=4096),  # Cortex-A72, 1.5 GHz
        Profile("raspberry-pi-5", cores=4, memory_mb=8192),  # Cortex-A76, 2.4 GHz
        Profile("jetson-nano", cores=4, memory_mb=4096),  # Cortex-A57, 1.43 GHz
        Profile("jetson-orin-nano", cores=6, memory_mb=8192),  # Cortex-A78AE, 1.5 GHz
    )
}
