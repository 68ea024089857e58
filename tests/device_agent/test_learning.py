"""Which of an agent's workloads are learned in one process."""

from __future__ import annotations

from device_agent.learner_messages import AppSpec, BuiltInSpec
from device_agent.learning import by_keras_backend


def test_keras_gets_a_process_for_each_backend_and_apps_choose_for_themselves() -> None:
    app = AppSpec("/apps/mine", {}, clients=4, run_id=5)
    step, on_torch, on_tensorflow = (BuiltInSpec(f"/bundles/{each}", each) for each in ("litert", "torch", "keras"))
    assert by_keras_backend({"a": app, "b": step, "c": on_torch, "d": on_tensorflow, "e": on_torch}) == {
        None: {"a": app, "b": step},
        "torch": {"c": on_torch, "e": on_torch},
        "tensorflow": {"d": on_tensorflow},
    }
