"""The credential of a device without Python, as the files that such devices and mosquitto's programs read."""

from __future__ import annotations

from pathlib import Path

from edgebench.fabric.tls import private_folder, write_private
from edgebench.lab.messages import DeviceCredential, LabError

HEADER = "edgebench_device.h"
"""All of it as C, for firmware."""

_PROGRAMS = ("mosquitto_pub", "mosquitto_sub")


def topic(name: str, workload: str, what: str) -> str:
    """Where such a device publishes its samples (`sample`) and gets what was decided (`decision`), in any run."""
    return f"eb/now/{name}/{workload}/{what}"


def write_credential(credential: DeviceCredential, folder: Path) -> list[Path]:
    """Write it into a folder that is not there yet, or empty; the files. Raises LabError, and OSError."""
    if folder.exists() and any(folder.iterdir()):
        raise LabError(f"{folder}: is there already (name another with --out)")
    private_folder(folder)
    ca, certificate, key = folder / "ca.pem", folder / "device.pem", folder / "device.key"
    options = (
        f"-h {credential.host}\n-p {credential.port}\n-u {credential.name}\n-P {credential.password}\n"
        f"--cafile {ca.name}\n--cert {certificate.name}\n--key {key.name}\n--tls-version tlsv1.3\n"
    )
    contents = {
        ca: credential.authority,
        certificate: credential.certificate,
        key: credential.key,
        folder / HEADER: _header(credential).encode(),
        **{folder / program: options.encode() for program in _PROGRAMS},
    }
    for file, data in contents.items():
        write_private(file, data)
    return list(contents)


def _header(credential: DeviceCredential) -> str:
    lines = [
        f"// A credential of {credential.name}, good until {credential.until}. Whoever has it speaks for that device.",
        "#pragma once",
        f'#define EDGEBENCH_NAME "{credential.name}"',
        f'#define EDGEBENCH_PASSWORD "{credential.password}"',
        f'#define EDGEBENCH_BROKER "mqtts://{credential.host}:{credential.port}"',
        f'#define EDGEBENCH_BROKER_NAME "{credential.server_name}"',
        f'#define EDGEBENCH_TOPIC(workload, what) "eb/now/{credential.name}/" workload "/" what',
    ]
    for name, pem in (
        ("AUTHORITY", credential.authority),
        ("CERTIFICATE", credential.certificate),
        ("KEY", credential.key),
    ):
        lines.append(f"#define EDGEBENCH_{name} \\")
        lines.append(" \\\n".join(f'    "{line}\\n"' for line in pem.decode().splitlines()))
    return "\n".join(lines) + "\n"
