"""Models that a topology names: whether they fit is found out before anything starts, in one line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud import own_models
from cloud.own_models import UNTOLD, manifest_of, read_facts
from edgebench.cli import main
from edgebench.errors import ModelError
from edgebench.inference.model_facts import ModelFacts
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest, Part, TensorSpec
from tests.manifests import manifest_of as manifest_for

SAMPLE = TensorSpec("float32", (10, 5))
TOPOLOGY = """\
schema: 1
name: own-model
duration_s: 2
nodes:
  cloud: {tier: cloud}
  hub: {tier: edge, parent: cloud}
  room: {tier: device, count: 2, parent: hub}
workloads:
  anybody:
    task: occupancy
    source: room
    load: {kind: fixed, rate_hz: 5}
    model: {source: sound.tflite}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Contents of model files: a sound one for occupancy, and those that are not."""
    import tensorflow as tf

    def converted(dtype: str, *outputs: int) -> bytes:
        def decide(x: tf.Tensor) -> list[tf.Tensor]:
            flat = tf.reshape(x, [1, 50])
            return [flat[:, :width] for width in outputs]

        function = tf.function(decide, input_signature=[tf.TensorSpec([1, 10, 5], dtype)]).get_concrete_function()
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())

    sound = converted("float32", 1)
    return {
        "sound": sound,
        "truncated": sound[: len(sound) // 2],
        "uint8": converted("uint8", 1),
        "two-outputs": converted("float32", 1, 3),
        "wide": converted("float32", 3),
    }


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """The files, each with a description that says that it is sound, and a topology."""
    for name, content in files.items():
        (tmp_path / f"{name}.tflite").write_bytes(content)
        described = manifest_for(content, task="occupancy", runtime="litert", input=SAMPLE)
        (tmp_path / f"{name}.tflite.json").write_bytes(msgspec.json.encode(described))
    (tmp_path / "own.yaml").write_text(TOPOLOGY)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], folder: Path, command: str, source: str, *more: str) -> str:
    """What a command says that finds a model unfit: one line, after which nothing has begun."""
    words = ["--set", f"workloads.anybody.model.source={source}", *more]
    words += ["--out", str(folder / "runs")] if command == "run" else []
    assert main([command, str(folder / "own.yaml"), *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert not list(folder.glob("runs/*own-model"))
    place = f"{folder / 'own.yaml'}: $.workloads.anybody.model.source: "
    assert err.startswith(place)
    return err.removeprefix(place).removesuffix("\n").replace(f"{folder}/", "")


def change(folder: Path, name: str, **changes: object) -> None:
    """Describe a file otherwise."""
    path = folder / f"{name}.tflite.json"
    told = msgspec.json.decode(path.read_bytes(), type=Manifest)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(told, **changes)))


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("uint8", "takes uint8 [10, 5], where its description says float32 [10, 5] (export it so, or mend that)"),
        ("two-outputs", "inputs: 1, outputs: 2; a model has one of each (export it so)"),
        ("wide", "gives float32 [3] a sample, where its description says float32 [1] (export it so, or mend that)"),
    ],
)
def test_a_file_that_is_not_as_it_is_described_is_refused(
    command: str, name: str, problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, folder, command, f"{name}.tflite") == f"{name}.tflite: {problem}"


def test_a_truncated_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, folder, "validate", "truncated.tflite")
    assert said.startswith("truncated.tflite: is no LiteRT model that runs here: ")
    assert said.endswith(" (copy or export it again)")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"task": "icu-death"}, "is for icu-death, not occupancy (name another, or change the task)"),
        ({"digest": "0" * 64}, "is not the file that sound.tflite.json describes (give both again, or remove that)"),
        ({"part": Part("tail", "dense", 0.5)}, "is the tail of a model that was cut in two (name a whole one)"),
        ({"batches": (1, 8)}, "does not run at batch size 8, which its description lists (remove that there)"),
        ({"runtime": "mine:open"}, "is for the runtime 'mine:open'; there are litert, keras, onnx, fake (convert it)"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    changes: dict[str, object], problem: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, "sound", **changes)
    assert refused(capsys, folder, "validate", "sound.tflite") == f"sound.tflite: {problem}"


def test_without_a_description_the_file_tells_what_is_needed(folder: Path) -> None:
    path = folder / "sound.tflite"
    (folder / "sound.tflite.json").unlink()
    assert main(["validate", str(folder / "own.yaml")]) == 0
    told = manifest_of(path, "occupancy")
    assert (told.runtime, told.input, told.outputs, told.batches) == ("litert", SAMPLE, 1, (1,))
    assert (told.quantisation, told.data_source, told.metrics) == (UNTOLD, UNTOLD, {})
    x = np.arange(100, dtype=np.float32).reshape(2, 10, 5)
    assert open_runtime(path, told, warm_for=2).infer(x).tolist() == [[0.0], [50.0]]


def test_without_a_description_a_files_outputs_are_held_against_the_task(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "wide.tflite.json").unlink()
    problem = "wide.tflite: gives 3 values a sample, occupancy takes 1 (name another)"
    assert refused(capsys, folder, "validate", "wide.tflite") == problem


def test_without_a_description_a_files_input_is_held_against_the_samples_of_a_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sound.tflite.json").unlink()
    said = refused(capsys, folder, "run", "sound.tflite", "--set", "workloads.anybody.task=icu-death")
    assert said == "sound.tflite: takes float32 [10, 5], samples of icu-death are float32 [48, 76] (name another)"


def test_a_file_of_an_unknown_kind_says_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.bin").write_bytes(b"something")
    assert refused(capsys, folder, "validate", "model.bin") == (
        "model.bin: has no description model.bin.json, and only files .tflite, .keras, .onnx do without (put one there)"
    )


def test_a_digest_that_the_registry_does_not_know_is_refused_before_a_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"sha256:{'1' * 64}"
    said = refused(capsys, folder, "run", source)
    assert said == f"{source}: runs/registry: no model {'1' * 64} (see --registry)"


def test_a_file_over_which_the_reading_process_ends_is_refused_and_not_the_end_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(ModelError, match=r"^ends the process that reads it \(status 1\): export it again$"):
        read_facts("no such runtime", tmp_path / "model")


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(files["sound"])
    facts = read_facts("litert", path)
    assert read_facts("litert", path) is facts
    path.write_bytes(files["wide"])
    assert read_facts("litert", path).outputs != facts.outputs
    path.unlink()
    with pytest.raises(ModelError, match=r"^cannot be read: No such file or directory$"):
        read_facts("litert", path)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The files that were read, of which nothing is remembered yet."""
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    found: list[Path] = []
    told = own_models._told

    def noted(runtime: str, path: Path) -> ModelFacts:
        found.append(path)
        return told(runtime, path)

    monkeypatch.setattr(own_models, "_told", noted)
    own_models._facts_of.cache_clear()
    return found


def test_what_a_file_tells_is_kept_for_later_commands(
    tmp_path: Path, files: dict[str, bytes], readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "model.tflite", tmp_path / "copy.tflite"
    path.write_bytes(files["sound"])
    copy.write_bytes(files["sound"])
    facts = read_facts("litert", path)
    own_models._facts_of.cache_clear()
    assert read_facts("litert", path) == read_facts("litert", copy) == facts
    assert readings == [path]

    copy.write_bytes(files["wide"])
    assert read_facts("litert", copy).outputs != facts.outputs
    kept, _ = sorted((tmp_path / "cache" / "model-facts").iterdir(), key=lambda each: each.stat().st_mtime_ns)
    kept.write_bytes(kept.read_bytes()[:-5])
    own_models._facts_of.cache_clear()
    assert read_facts("litert", path) == facts, "of what is kept damaged"
    monkeypatch.setattr(own_models, "version", lambda package: f"another {package}")
    own_models._facts_of.cache_clear()
    assert read_facts("litert", path) == facts
    assert readings == [path, copy, path, path], "another runtime may read it otherwise"


def test_what_was_told_while_a_file_changed_is_not_kept(
    tmp_path: Path, files: dict[str, bytes], readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(files["sound"])
    told = own_models._told

    def changed_meanwhile(runtime: str, path: Path) -> ModelFacts:
        path.write_bytes(files["wide"])
        return told(runtime, path)

    monkeypatch.setattr(own_models, "_told", changed_meanwhile)
    read_facts("litert", path)
    assert not (tmp_path / "cache" / "model-facts").exists()


def test_nothing_is_kept_where_nobody_knows_by_what_a_file_was_read(
    tmp_path: Path, files: dict[str, bytes], readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(own_models, "version", unknown)
    path = tmp_path / "model.tflite"
    path.write_bytes(files["sound"])
    assert read_facts("litert", path).batches
    assert not (tmp_path / "cache" / "model-facts").exists()


def test_a_cache_that_cannot_be_written_keeps_nobody_from_reading(
    tmp_path: Path, files: dict[str, bytes], readings: list[Path]
) -> None:
    (tmp_path / "cache").write_text("no folder")
    path = tmp_path / "model.tflite"
    path.write_bytes(files["sound"])
    assert read_facts("litert", path).batches


def test_why_a_file_tells_nothing_is_not_kept(tmp_path: Path, files: dict[str, bytes], readings: list[Path]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(files["truncated"])
    for _ in range(2):
        own_models._facts_of.cache_clear()
        with pytest.raises(ModelError, match="no LiteRT model"):
            read_facts("litert", path)
    assert readings == [path, path]


def test_the_oldest_of_what_is_kept_goes(
    tmp_path: Path, files: dict[str, bytes], readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_models, "_MOST_KEPT", 1)
    for name in ("sound", "wide"):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(files[name])
        newest = read_facts("litert", path)
    (kept,) = (tmp_path / "cache" / "model-facts").iterdir()
    assert msgspec.json.decode(kept.read_bytes(), type=ModelFacts) == newest


def test_a_quantised_file_without_a_description_is_told_what_a_decision_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "uint8.tflite.json").unlink()
    assert refused(capsys, folder, "validate", "uint8.tflite") == (
        "uint8.tflite: gives uint8 [1] a sample, and a decision is float32 [values] (export it so)"
    )


@pytest.mark.parametrize("content", [b"", b"what is no model", b"PK\x03\x04 and cut off"])
def test_what_is_no_keras_file_is_told_as_that(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(ModelError, match=r"^not a Keras model, which is a zip file \(copy or save it again\)$"):
        read_facts("keras", tmp_path / "model.keras")
