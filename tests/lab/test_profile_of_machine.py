"""`edgebench profile --machine`: a machine of the lab is measured from its server, with the server's models."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgebench
from edgebench.errors import EdgebenchError
from edgebench.topology.profile_files import read_profile
from edgebench.topology.profiles import Measured, ModelKey
from tests.experiments.profiling.test_measuring import kit
from tests.lab.labs import Lab, command, eventually


def test_who_is_no_machine_of_the_lab_is_told_so_before_anything_is_made(lab: Lab, tmp_path: Path) -> None:
    with lab.link(tmp_path / "pi", "pi-4"):
        eventually(lambda: lab.info("pi-4").present)
        with lab.at(lab.home), pytest.raises(EdgebenchError, match=r"^--machine pi-5: no machine .*mean 'pi-4'"):
            edgebench.profile(machine="pi-5", tasks=["icu-death"])


def test_of_a_machine_that_serves_a_run_it_is_said_which(lab: Lab, tmp_path: Path) -> None:
    models = kit(tmp_path, "face-recognition", 0.004)
    with lab.link(tmp_path / "pi", "pi"):
        eventually(lambda: lab.info("pi").present)
        lab.client.hold("run-1", ["pi"], "a test")
        with (
            lab.at(lab.home),
            pytest.raises(EdgebenchError, match=r"^--machine pi: serves the run run-1 \(a test\) .* UTC \(wait for it"),
        ):
            edgebench.profile(machine="pi", tasks=["face-recognition"], quick=True, models=models)
        lab.client.release("run-1")


@pytest.mark.long  # half a minute of measuring
def test_a_machine_of_the_lab_is_measured_from_the_server(lab: Lab, tmp_path: Path) -> None:
    joined = command(tmp_path / "pi", "join", lab.url, "--token", lab.token(), "--name", "pi")
    try:
        eventually(lambda: any(each.name == "pi" and each.present for each in lab.client.machines()), 30.0)
        out = tmp_path / "pi.json"
        with lab.at(lab.home):
            found = edgebench.profile(
                machine="pi",
                tasks=["face-recognition"],
                quick=True,
                models=kit(tmp_path, "face-recognition", 0.004),
                out=out,
                progress=True,
            )
        assert read_profile(out) == found
        assert (found.name, type(found.origin)) == ("pi", Measured)
        times = found.model_times(ModelKey("face-recognition", "light", "fake", "float32"))
        assert times[1].us[0] >= 4_000
        eventually(lambda: lab.info("pi").holder is None)
    finally:
        joined.terminate()
        joined.communicate(timeout=30)
