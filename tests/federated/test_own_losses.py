"""Tasks with a loss of their own: their models learn on where Keras is, on either backend, and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from cloud.client_bundles import write_bundle
from cloud.jobs import BundleOrder, TrainJob
from cloud.training import TrainerSession
from edgebench.errors import DataError
from edgebench.federated.client_bundle import BUNDLE, INITIAL, open_stepper, read_info
from edgebench.federated.content import numpy_arrays, read_parcel
from edgebench.federated.learner import LocalFit, LocalPlan, fit
from edgebench.federated.partition import PartitionFile
from edgebench.tasks import task_named
from edgebench.tasks.task import FitOptions
from edgebench.topology.model import Dirichlet, Iid

ROOT = Path(__file__).resolve().parents[2]
BATCH = 16
SMALL_STEP = 0.002
"""Which triplets are the hardest hangs on how a processor rounds, the more so the longer the steps before were."""


def bundle_of(task_name: str, runtime: str, directory: Path) -> Path:
    """The bundle of a light model that has learned next to nothing, for two devices."""
    task = task_named(task_name)
    dataset = task.load(None, seed=1)
    rows = np.arange(96)
    model = task.fit("light", dataset, FitOptions(seed=1, epochs=1, examples=4))
    assert isinstance(model, keras.Model)
    model.save(directory / "model.keras")
    order = BundleOrder(runtime, BATCH, Iid(), 2, str(directory / "bundle"))
    write_bundle(task, directory / "model.keras", dataset.train.rows(rows), order, 1, None)
    return directory / "bundle"


def learned(bundle: Path, epochs: int, learning_rate: float) -> LocalFit:
    """What the first device learns."""
    stepper, (x, y) = open_stepper(bundle, read_info(bundle)), PartitionFile(bundle).part(0)
    plan = LocalPlan(epochs=epochs, batch_size=BATCH, learning_rate=learning_rate, momentum=0.9, clip_norm=1.0)
    start = numpy_arrays(read_parcel(bundle / INITIAL).content)
    return fit(stepper, [weight for _, weight in start], x, y, plan, seed=1)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of a task, made once."""
    return cache(lambda task_name: bundle_of(task_name, "keras", tmp_path_factory.mktemp("bundle")))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("task_name", ["person-reid", pytest.param("speech-recognition", marks=pytest.mark.long)])
def test_a_device_learns_by_its_task_s_own_loss(task_name: str, bundles: Callable[[str], Path]) -> None:
    bundle = bundles(task_name)
    assert read_info(bundle).loss is None
    before, after = learned(bundle, 1, 0.0), learned(bundle, 6, 0.02)
    assert np.isfinite(before.loss)
    assert after.loss < before.loss


@pytest.mark.timeout(300)
def test_on_torch_a_device_learns_the_same(bundles: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = bundles("person-reid")
    on_torch = tmp_path / "torch"
    shutil.copytree(bundle, on_torch)
    (on_torch / BUNDLE).write_bytes(msgspec.json.encode(msgspec.structs.replace(read_info(bundle), runtime="torch")))
    code = f"""
import numpy as np
from pathlib import Path
from tests.federated.test_own_losses import learned
done = learned(Path({str(on_torch)!r}), 2, {SMALL_STEP})
np.savez({str(tmp_path / "torch.npz")!r}, done.loss, *done.weights)
"""
    env = {**os.environ, "KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "torch.npz") as file:
        loss, *weights = (file[name] for name in file.files)
    start, here = learned(bundle, 1, 0.0), learned(bundle, 2, SMALL_STEP)
    assert float(loss) == pytest.approx(here.loss, rel=1e-3)
    moved = [own - before for own, before in zip(here.weights, start.weights, strict=True)]
    apart = [there - own for there, own in zip(weights, here.weights, strict=True)]
    assert length(moved) > 0.01
    assert length(apart) < 0.02 * length(moved)


def length(weights: Sequence[NDArray[np.float32]]) -> float:
    """Of the vector of all weights."""
    return float(np.sqrt(sum(np.square(each).sum(dtype=np.float64) for each in weights)))


def test_labels_that_are_no_classes_are_not_shared_out_by_class(tmp_path: Path) -> None:
    job = TrainJob(
        name="watch",
        task="speech-recognition",
        data=None,
        size="light",
        seed=1,
        out_dir=str(tmp_path),
        targets=(("fake", "float32"),),
        bundle=BundleOrder("keras", 8, Dirichlet(0.5), 2, str(tmp_path / "bundle")),
    )
    with TrainerSession() as session, pytest.raises(DataError, match="are no classes") as caught:
        session.do([job], lambda _: None)
    assert str(caught.value).startswith("$.federated: workload watch: ")
