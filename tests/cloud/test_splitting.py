"""Models cut in two: where they can be, that nothing is lost by it, and which place is the best."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest

from cloud.cutting_rule import predicted_ms, split_order, worthwhile
from cloud.export import Converter
from cloud.jobs import HeadOrder, SplitOrder, Trained, TrainJob
from cloud.model_files import Fitted
from cloud.model_files import outputs_of as outputs_of_file
from cloud.splitting import Place, cut_at, places_of, split_files
from cloud.training import TrainerSession, fitted
from edgebench.errors import DataError, ModelError
from edgebench.executors.assigning import untold_cuts
from edgebench.inference.spec import TensorSpec
from edgebench.seeds import rng_for
from edgebench.tasks import task_named
from edgebench.tasks.models import outputs_of
from edgebench.tasks.task import Size
from edgebench.topology.deployment import Deployment
from tests.cloud.tiny import NAME
from tests.results import factory


def forked() -> keras.Model:
    """A network with a bridge over two of its layers, and one that joins two branches."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    picture = keras.Input((8, 8, 3), dtype="uint8", name="sample")
    x = layers.Rescaling(1 / 255, name="scaled")(picture)
    first = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(x)
    inside = layers.Conv2D(4, 3, padding="same", name="inside")(first)
    inside = layers.BatchNormalization(name="norm")(inside)
    joined = layers.Add(name="joined")([first, inside])
    pooled = layers.GlobalAveragePooling2D(name="pooled")(joined)
    return keras.Model(picture, layers.Dense(3, activation="softmax", name="answer")(pooled))


def test_a_model_can_be_cut_where_one_tensor_alone_goes_on() -> None:
    places = places_of(forked())
    assert [(place.number, place.layer, place.values) for place in places] == [
        (1, "scaled", 192),
        (2, "first", 256),
        (3, "joined", 256),
        (4, "pooled", 4),
    ]


def test_a_model_is_not_cut_where_parts_of_a_sample_have_a_row_each() -> None:
    frames = keras.Input((3, 5), name="sample")
    each = keras.layers.Dense(4, name="inside")(keras.ops.reshape(frames, (-1, 5)))
    together = keras.layers.Flatten(name="together")(keras.ops.reshape(each, (-1, 3, 4)))
    model = keras.Model(frames, keras.layers.Dense(1, name="answer")(together))
    assert [place.values for place in places_of(model)] == [12, 12]
    assert places_of(model)[-1].layer == "together"


def test_both_parts_together_give_what_the_whole_gives_wherever_it_is_cut() -> None:
    whole = forked()
    x = rng_for(1, "pictures").integers(0, 256, (9, 8, 8, 3), np.uint8)
    expected = outputs_of(whole, x)
    for place in places_of(whole):
        head, tail = cut_at(whole, place)
        given = outputs_of(head, x)
        assert given.shape == (9, place.values)
        np.testing.assert_allclose(outputs_of(tail, given), expected, atol=1e-5)


@pytest.mark.parametrize("size", ["light", "heavy"])
def test_the_files_of_both_parts_decide_as_the_whole_does(size: Size, tmp_path: Path) -> None:
    model = _fitted(size, tmp_path)
    whole = keras.models.load_model(model.file)
    x = model.dataset.test.x
    number = len(places_of(whole))
    trained = split_files(model, SplitOrder(after=number), None)
    head, tail = trained.files
    given = outputs_of_file(Path(head.path), head.manifest, x)
    decided = outputs_of_file(Path(tail.path), tail.manifest, given)
    np.testing.assert_allclose(decided, outputs_of(whole, x), atol=1e-5)
    assert trained.cut is not None
    assert (trained.cut.place, trained.places, trained.considered) == (number, number, ())
    assert tail.manifest.input.shape == (head.manifest.outputs,)
    assert head.manifest.part is not None
    assert tail.manifest.part is not None
    assert (head.manifest.part.kind, tail.manifest.part.kind) == ("head", "tail")
    assert head.manifest.part.share + tail.manifest.part.share == pytest.approx(1)
    assert tail.manifest.metrics == pytest.approx(model.metrics, abs=1e-5)
    assert tail.manifest.metrics_before_export == model.metrics


@pytest.mark.long
def test_parts_of_litert_decide_as_the_whole_does(tmp_path: Path) -> None:
    fitted_model = _fitted("light", tmp_path)
    job = msgspec.structs.replace(fitted_model.job, targets=(("litert", "float32"),))
    with Converter() as converter:
        trained = split_files(dataclasses.replace(fitted_model, job=job), SplitOrder(after=2), converter)
    head, tail = trained.files
    x = fitted_model.dataset.test.x
    decided = outputs_of_file(Path(tail.path), tail.manifest, outputs_of_file(Path(head.path), head.manifest, x))
    whole = keras.models.load_model(fitted_model.file)
    np.testing.assert_allclose(decided, outputs_of(whole, x), atol=1e-5)
    assert (head.manifest.runtime, tail.manifest.runtime) == ("litert", "litert")


def test_a_place_beyond_the_last_is_refused_in_a_line_that_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        split_files(_fitted("light", tmp_path), SplitOrder(after=3), None)
    assert str(refused.value) == "$.workloads.w.split: 3, and the model can be cut at 2 places (write 1 to 2)"


def test_a_torch_module_is_refused_in_a_line(tmp_path: Path) -> None:
    module = dataclasses.replace(_fitted("light", tmp_path), file=tmp_path / "model.onnx")
    with pytest.raises(ModelError) as refused:
        split_files(module, SplitOrder(after=1), None)
    assert str(refused.value) == f"{NAME}: a torch module is not cut in two (give a Keras model, or no split)"


def test_the_best_place_is_where_the_parts_and_the_way_between_them_take_least(tmp_path: Path) -> None:
    slow = SplitOrder(after="auto", mbit_s=0.01)
    trained = split_files(_fitted("light", tmp_path), slow, None)
    assert [(each.place, each.values) for each in trained.considered] == [(1, 24), (2, 8)]
    assert trained.cut is not None
    assert trained.cut == min(trained.considered, key=lambda each: each.predicted_ms or 0.0)
    assert trained.cut.place == 2  # 24 values take 77 ms, 8 take 26


def test_what_is_predicted_is_the_parts_where_they_run_and_the_way_between() -> None:
    here = SplitOrder(after="auto", latency_ms=20.0, mbit_s=1.0)
    assert predicted_ms(here, 1.0, 3.0, 250) == pytest.approx(1 + 20 + 8 + 3)
    emulated = msgspec.structs.replace(here, first_ms=80.0, second_ms=8.0, mbit_s=None)
    assert predicted_ms(emulated, 1.0, 3.0, 250) == pytest.approx(80 / 4 + 20 + 8 * 3 / 4)


def test_a_later_place_is_worth_a_look_only_where_less_goes_on() -> None:
    sizes = (100, 400, 100, 90, 90, 10)
    places = [Place(number, "", None, values) for number, values in enumerate(sizes, 1)]
    assert [place.number for place in worthwhile(places)] == [1, 4, 6]


def test_an_order_holds_the_link_of_the_edges_and_nothing_is_known_of_other_machines() -> None:
    plan = factory.workload(split="auto")
    order = split_order(plan, factory.deployment(plan))
    assert (order.after, order.speeds_known, order.first_ms, order.second_ms) == ("auto", True, None, None)
    assert order.latency_ms == 20
    assert order.mbit_s == pytest.approx(20)
    away: Deployment = factory.placed(factory.deployment(plan), ward_0="pi-ward")
    assert [place for place, _ in untold_cuts(away)] == ["$.workloads.death-risk.split"]
    numbered = factory.workload(split=2)
    assert not list(untold_cuts(factory.placed(factory.deployment(numbered), ward_0="pi-ward")))
    order = split_order(numbered, away)
    assert (order.after, order.speeds_known) == (2, False)


def test_an_order_of_a_chain_that_begins_on_devices_holds_all_links_on_their_way() -> None:
    plan = factory.workload(split="auto", head_tier="device", place="device → edge")
    deployment = factory.deployment(plan)
    order = split_order(plan, deployment)
    assert (order.speeds_known, order.latency_ms) == (True, 2.0)
    assert order.mbit_s == pytest.approx(40.0)
    far = factory.workload(split="auto", head_tier="device", place="device → cloud", deciders={"bed-0": "cloud"})
    order = split_order(far, factory.deployment(far))
    assert order.latency_ms == 22.0
    assert order.mbit_s == pytest.approx(1 / (1 / 40 + 1 / 20))
    for node in ("ward_0", "bed_0"):  # of whose machine nothing is known
        away = factory.placed(deployment, **{node: "pi"})
        assert [place for place, _ in untold_cuts(away)] == ["$.workloads.death-risk.split"]
        assert not split_order(msgspec.structs.replace(plan, split=2), away).speeds_known


def test_nothing_is_predicted_where_nothing_tells_how_fast_edges_are(tmp_path: Path) -> None:
    trained = split_files(_fitted("light", tmp_path), SplitOrder(after=1, speeds_known=False), None)
    assert trained.cut is not None
    assert (trained.cut.place, trained.cut.predicted_ms) == (1, None)


def _fitted(size: Size, tmp_path: Path) -> Fitted:
    job = TrainJob(
        name="w",
        task=NAME,
        data=None,
        size=size,
        seed=0,
        out_dir=str(tmp_path),
        targets=(("keras", "float32"),),
        epochs=1,
    )
    task = task_named(NAME)
    return fitted(job, task, task.load(None, seed=0), lambda _: None)


def test_the_second_stage_learns_from_what_the_first_gives_and_is_judged_by_both(tmp_path: Path) -> None:
    job = TrainJob(
        name="w",
        task="tests.cloud.tiny:SECOND",
        data=None,
        size="light",
        seed=0,
        out_dir=str(tmp_path),
        targets=(("keras", "float32"),),
        stream_dir=str(tmp_path / "stream"),
        head=HeadOrder(NAME, "light", ("keras", "float32"), epochs=3),
    )
    done: list[Trained] = []
    with TrainerSession() as session:
        session.do([job], lambda event: done.append(event) if isinstance(event, Trained) else None)
    head, tail = done[0].files
    task = task_named(NAME)
    splits = task.load(None, seed=0)
    # The sensors sense what the first stage takes, and the labels are those of the second.
    np.testing.assert_array_equal(np.load(tmp_path / "stream" / "x.npy"), splits.test.x)
    assert (head.manifest.task, tail.manifest.task) == (NAME, "tests.cloud.tiny:SECOND")
    assert (head.manifest.outputs, tail.manifest.input) == (1, TensorSpec("float32", (1,)))
    given = outputs_of_file(Path(head.path), head.manifest, splits.valid.x)
    decided = outputs_of_file(Path(tail.path), tail.manifest, given)
    assert tail.manifest.metrics == pytest.approx(task.score(decided, splits.valid.y), abs=1e-6)
    assert tail.manifest.metrics["auroc"] > 0.8


def test_a_first_stage_that_takes_other_samples_is_refused(tmp_path: Path) -> None:
    job = TrainJob(
        name="w",
        task=NAME,
        data=None,
        size="light",
        seed=0,
        out_dir=str(tmp_path),
        targets=(("keras", "float32"),),
        head=HeadOrder("occupancy", "light", ("keras", "float32")),
    )
    with TrainerSession() as session, pytest.raises(DataError) as refused:
        session.do([job], lambda _: None)
    assert str(refused.value).startswith("$.workloads.w.head.task: occupancy takes float32 [")
    assert f"samples of {NAME} are float32 [8, 3] (name another)" in str(refused.value)
