"""`edgebench train` on a user's own task."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from cloud.jobs import TrainedFile
from cloud.registry import Registry
from edgebench.cli import COMMANDS
from edgebench.errors import DataError, EdgebenchError
from edgebench.experiments.train import (
    BaselineResult,
    DataResult,
    Exported,
    ModelResult,
    NotExported,
    TrainResult,
    choice,
    keep,
    print_tables,
    sizes_of,
    spread,
)
from edgebench.inference.runtime import open_runtime
from edgebench.inference.spec import Manifest
from tests.cloud.tiny import NAME, TASK, drawn_by
from tests.manifests import manifest

ROOT = Path(__file__).resolve().parents[2]


class Trained(NamedTuple):
    result: dict[str, Any]
    out: Path
    registry: Path


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield patch


@pytest.fixture(scope="module")
def trained(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Both sizes from two seeds, once for all tests of this module."""
    folder = tmp_path_factory.mktemp("train")
    out, registry = folder / "light.model", folder / "registry"
    with pytest.MonkeyPatch.context() as context:
        printed = _Captured(context)
        status = COMMANDS["train"].run(
            _arguments(NAME, "--seeds", "2", "--out", str(out), "--registry", str(registry), "--json")
        )
    assert status == 0
    return Trained(json.loads(printed.text()), out, registry)


class _Captured:
    """Standard output, kept; capsys lives shorter than a module."""

    def __init__(self, context: pytest.MonkeyPatch) -> None:
        self._buffer = io.StringIO()
        context.setattr("sys.stdout", self._buffer)

    def text(self) -> str:
        return self._buffer.getvalue()


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    COMMANDS["train"].add_arguments(parser)
    return parser.parse_args(words)


def test_the_json_has_the_agreed_keys(trained: Trained) -> None:
    result = trained.result
    assert set(result) == {"task", "data", "seeds", "models", "baseline"}
    assert result["data"] == {"source": "tiny", "real": False, "n_train": 300, "n_test": 70}
    assert (result["task"], result["seeds"]) == (NAME, 2)
    assert set(result["models"]) == {"light", "heavy"}
    for model in result["models"].values():
        assert set(model) == {"parameters", "metrics", "beside", "intervals", "train_s", "exports"}
        assert set(model["metrics"]) == {"auroc", "auprc"}
        assert set(model["metrics"]["auroc"]) == {"median", "mean", "std", "values"}
        assert len(model["metrics"]["auroc"]["values"]) == 2
        low, high = model["intervals"]["auroc"]
        assert 0 <= low <= high <= 1
        assert set(model["exports"]) == {"float32", "float16", "dynamic", "int8"}
    assert result["models"]["light"]["parameters"] == 209
    beside = {"the first ten": {"auroc": 1.0, "auprc": 1.0}}
    # The label is whether the mean is above zero: the mean itself must rank perfectly.
    assert result["baseline"] == {"name": "the mean itself", "metrics": {"auroc": 1.0, "auprc": 1.0}, "beside": beside}


def test_an_export_has_size_metrics_and_latency(trained: Trained) -> None:
    for export in trained.result["models"]["light"]["exports"].values():
        assert set(export) == {"bytes", "metrics", "latency_us"}
        assert export["bytes"] > 1_000
        assert export["latency_us"] > 0
        assert export["metrics"]["auroc"] > 0.5


def test_a_quantisation_that_crashes_the_converter_is_recorded_and_the_others_are_made(trained: Trained) -> None:
    exports = trained.result["models"]["heavy"]["exports"]
    assert "the converter crashed (signal 11, SIGSEGV)" in exports["int8"]["error"]
    assert all("bytes" in exports[quantisation] for quantisation in ("float32", "float16", "dynamic"))


def test_out_holds_the_light_model_beside_its_manifest(trained: Trained) -> None:
    described = msgspec.json.decode(trained.out.with_name("light.model.json").read_bytes(), type=Manifest)
    assert described.digest == hashlib.sha256(trained.out.read_bytes()).hexdigest()
    assert (described.model_size, described.runtime, described.evaluated_on) == ("light", "litert", "valid")
    assert described.quantisation in {"dynamic", "float32"}
    test = TASK.load(None, seed=0).test
    outputs = open_runtime(trained.out, described).infer(test.x)
    reported = trained.result["models"]["light"]["exports"][described.quantisation]["metrics"]
    assert TASK.score(outputs, test.y)["auroc"] == pytest.approx(reported["auroc"], abs=1e-3)


def test_a_further_test_set_stands_beside(trained: Trained) -> None:
    test = TASK.load(None, seed=0).test
    model = trained.result["models"]["light"]
    assert set(model["beside"]) == {"the first ten"}
    assert len(model["beside"]["the first ten"]["auroc"]["values"]) == 2
    described = msgspec.json.decode(trained.out.with_name("light.model.json").read_bytes(), type=Manifest)
    found = TASK.score(open_runtime(trained.out, described).infer(test.x[:10]), test.y[:10])
    # Of the seed that is exported.
    for metric, value in found.items():
        assert min(abs(value - each) for each in model["beside"]["the first ten"][metric]["values"]) < 1e-6


def test_what_a_model_draws_is_kept_beside_it(trained: Trained) -> None:
    assert trained.out.with_name("light.model.png").read_bytes() == drawn_by("light")


def test_a_file_knows_the_metrics_of_the_model_that_it_was_made_of(trained: Trained) -> None:
    described = msgspec.json.decode(trained.out.with_name("light.model.json").read_bytes(), type=Manifest)
    assert described.metrics_before_export.keys() == described.metrics.keys() == {"auroc", "auprc"}
    assert described.metrics["auroc"] == pytest.approx(described.metrics_before_export["auroc"], abs=0.02)


def test_the_registry_holds_a_model_of_each_size(trained: Trained) -> None:
    registry = Registry(trained.registry)
    assert sorted(m.model_size for m in registry.manifests()) == ["heavy", "light"]
    for kept in registry.manifests():
        registry.open(kept.digest)


def test_the_table_says_what_the_data_is_and_why_an_export_is_absent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    exports: dict[str, Exported | NotExported] = {"float32": Exported(5_000, {"auroc": 0.81}, 73.4)}
    exports["int8"] = NotExported("int8: no")
    metrics = {"auroc": spread([0.824, 0.821, 0.815])}
    light = ModelResult(161, metrics, {"six others": metrics}, {"auroc": (0.79, 0.85)}, 2.0, exports)
    baseline = BaselineResult("the mean itself", {"auroc": 0.843}, {"six others": {"auroc": 0.777}})
    print_tables(TrainResult("t", DataResult("tiny", False, 300, 70), 3, {"light": light}, baseline))
    printed = capsys.readouterr().out
    assert "generated data (tiny)" in printed
    assert "Beside the test split: six others" in printed
    of_models = ("0.821", "0.820 ± 0.005", "0.790 to 0.850", "5,000", "73 µs", "int8: no")
    for part in (*of_models, "0.777", "the mean itself", "0.843"):
        assert part in printed


def test_one_seed_has_no_spread(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    light = ModelResult(161, {"auroc": spread([0.824])}, {}, {}, 2.0, {})
    print_tables(TrainResult("t", DataResult("tiny", False, 300, 70), 1, {"light": light}, BaselineResult("b", {}, {})))
    row = next(line for line in capsys.readouterr().out.splitlines() if "light" in line)
    cells = [cell.strip() for cell in re.split("[│┃]", row)]
    assert [cell for cell in cells if cell] == ["light", "auroc", "0.824", "–", "–", "161", "2.0 s"]


def test_what_was_kept_is_told(tmp_path: Path) -> None:
    model, picture = tmp_path / "model.tflite", tmp_path / "drawn.png"
    model.write_bytes(b"a model")
    picture.write_bytes(drawn_by("light"))
    digest = hashlib.sha256(b"a model").hexdigest()
    described = manifest(digest=digest, size_bytes=7, model_size="light", quantisation="dynamic")
    out, registry = tmp_path / "light.model", tmp_path / "registry"
    lines = keep({"light": TrainedFile(str(model), described, str(picture))}, out=out, registry=registry)
    assert lines == [
        f"light, dynamic: {out}, {out}.json, {out}.png",
        f"light, dynamic: sha256:{digest} in {registry}",
    ]
    assert keep({"light": TrainedFile(str(model), described)}, out=out, registry=None) == [
        f"light, dynamic: {out}, {out}.json"
    ]


def test_without_a_terminal_each_step_is_a_line_on_standard_error(
    patch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError):
        COMMANDS["train"].run(_arguments(NAME, "--data", "nowhere"))
    said = capfd.readouterr()
    assert said.err.splitlines()[-2:] == ["loading Keras", "loading the data"]
    assert said.out == ""


def test_wrong_arguments_are_errors_of_one_line(patch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EdgebenchError, match="--seeds 0: at least 1"):
        COMMANDS["train"].run(_arguments(NAME, "--seeds", "0"))
    with pytest.raises(EdgebenchError, match=r"has no size 'published' \(write --size light or heavy\)"):
        COMMANDS["train"].run(_arguments(NAME, "--size", "published"))
    with pytest.raises(DataError, match="no tiny data set"):
        COMMANDS["train"].run(_arguments(NAME, "--data", str(tmp_path)))


def test_what_is_trained_is_what_the_task_has() -> None:
    assert sizes_of(NAME, None) == ["light", "heavy"]
    assert sizes_of("tests.cloud.tiny:LIGHT_ONLY", None) == ["light"]
    assert sizes_of("sign-recognition", None) == ["light", "heavy"]
    assert sizes_of("sign-recognition", "published") == ["published"]


def test_spread_is_mean_and_sample_deviation() -> None:
    found = spread([1.0, 2.0, 3.0])
    assert (found.median, found.mean, found.std, found.values) == (2.0, 2.0, 1.0, (1.0, 2.0, 3.0))
    assert spread([0.5]).std == 0.0


@pytest.mark.parametrize(
    ("dynamic", "chosen"), [(0.796, "dynamic"), (0.9, "dynamic"), (0.79, "float32"), (None, "float32")]
)
def test_the_smaller_file_is_kept_unless_it_decides_worse(dynamic: float | None, chosen: str) -> None:
    files = {"float32": _file("float32", 0.8)}
    if dynamic is not None:
        files["dynamic"] = _file("dynamic", dynamic)
    assert choice(files, "auroc").manifest.quantisation == chosen


def _file(quantisation: str, auroc: float) -> TrainedFile:
    plain = manifest(task=NAME, runtime="litert", quantisation=quantisation, metrics={"auroc": auroc})
    return TrainedFile("nowhere", plain)


def test_spread_of_undefined_metrics_is_undefined() -> None:
    assert np.isnan(spread([float("nan"), 0.5]).mean)
