"""From a Keras model to the file that a runtime loads.

TensorFlow's converter can end the whole process (full-integer recurrent layers did), so it runs in a child: a crash
becomes an error message. The child stays for further conversions, since it takes seconds to start.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from edgebench.errors import EdgebenchError, ModelError
from edgebench.fabric.child_process import ChildProcess, describe_end
from edgebench.federated.learner import StepSpec
from edgebench.tasks import task_named
from edgebench.tasks.task import Loss

BATCHES = (1, 8, 32)
"""The batch sizes of every exported file."""
REPRESENTATIVE_SAMPLES = 128
"""For full-integer models: enough to see the range of every tensor, and a multiple of each batch size."""
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
"""Environment of a process that uses TensorFlow: on the processor, and without flower_log."""
QUANTISATIONS = {
    "litert": ("float32", "float16", "dynamic", "int8"),
    "keras": ("float32",),
    "onnx": ("float32",),
    "fake": ("float32",),
}


class Conversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="model"):
    """One conversion to LiteRT. task: its module may define layers of the model. model: a `.keras` file.

    representative: a `.npy` file of samples [sample, *shape], for int8 only. out: the file to write.
    """

    task: str
    model: str
    quantisation: str
    representative: str | None
    out: str


class StepConversion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="step"):
    """The conversion of a model's training step. task, model: as in `Conversion`. batch: samples a step.

    out: the `.tflite` file to write; what the step takes is written beside it, to the same name with `.json`.
    """

    task: str
    model: str
    loss: Loss
    batch: int
    out: str


class _Reply(msgspec.Struct, frozen=True):
    error: str | None = None


class Converter:
    """A child process that converts. Start it early: it loads TensorFlow while the caller does other things.

    Use it as a context manager, from the thread that made it or, one call at a time, from any other.
    """

    def __init__(self) -> None:
        self._child = self._started()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def convert(self, conversion: Conversion) -> None:
        """Write `conversion.out`. Raises ModelError with the reason, and is then ready for the next one."""
        self._ask(conversion)

    def convert_step(self, conversion: StepConversion) -> StepSpec:
        """Write `conversion.out` and the file beside it, whose content is returned.

        Raises ModelError with the reason, mostly the operations that LiteRT lacks; it is then ready for the next one.
        """
        self._ask(conversion)
        return msgspec.json.decode(_beside(conversion).read_bytes(), type=StepSpec)

    def _ask(self, request: Conversion | StepConversion) -> None:
        if self._child.has_ended:
            self.close()
            self._child = self._started()
        try:
            self._child.write_line(msgspec.json.encode(request))
            line = self._child.read_line()
        except BrokenPipeError:
            line = b""
        if not line:
            raise ModelError(_death(self._child.end(), request))
        error = msgspec.json.decode(line, type=_Reply).error
        if error is not None:
            raise ModelError(error)

    def close(self) -> None:
        """End the child."""
        self._child.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _started() -> ChildProcess:
        return ChildProcess(
            [sys.executable, "-m", "cloud.export"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=quiet_environment(),
        )


def quiet_environment(threads: int | None = None) -> dict[str, str]:
    """This process's environment, for a child that uses TensorFlow on that many threads."""
    environment = {**os.environ, **QUIET}
    if threads is not None:
        limits = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
        environment |= dict.fromkeys(limits, str(threads))
    return environment


def check_quantisation(runtime: str, quantisation: str) -> None:
    """Raises ModelError where a runtime has no such quantisation."""
    if quantisation not in QUANTISATIONS.get(runtime, ("float32",)):
        offered = ", ".join(QUANTISATIONS.get(runtime, ("float32",)))
        raise ModelError(f"{runtime} models are not made in {quantisation}; there is {offered}")


def _death(status: int, request: Conversion | StepConversion) -> str:
    hint = ": full-integer recurrent layers are not supported by it" if _what(request) == "int8" else ""
    return f"{_what(request)}: the converter crashed ({describe_end(status)}){hint}"


def _what(request: Conversion | StepConversion) -> str:
    return request.quantisation if isinstance(request, Conversion) else "training step"


def _beside(conversion: StepConversion) -> Path:
    return Path(conversion.out).with_suffix(".json")


def main() -> None:
    """Convert what standard input asks for, a line each, until it ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print must not mix with the replies
    tracer = _Tracer()
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=Conversion | StepConversion)
        try:
            if isinstance(request, Conversion):
                _convert(tracer, request)
            else:
                _convert_step(tracer, request)
            reply = _Reply()
        except EdgebenchError as error:
            reply = _Reply(error=str(error))
        except Exception as error:  # noqa: BLE001  (the reply is where it goes)
            first = next((text for text in str(error).splitlines() if text.strip()), type(error).__name__)
            reply = _Reply(error=f"{_what(request)}: {type(error).__name__}: {first.strip()[:500]}")
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()


def _convert(tracer: _Tracer, conversion: Conversion) -> None:
    from cloud.multibatch import merged

    tracer.open(conversion.task, conversion.model)
    samples = np.load(conversion.representative, mmap_mode="r") if conversion.representative else None
    files = {batch: _one_batch(tracer.function(batch), batch, conversion.quantisation, samples) for batch in BATCHES}
    Path(conversion.out).write_bytes(merged(files))


def _convert_step(tracer: _Tracer, conversion: StepConversion) -> None:
    from cloud.stepping import training_step

    graph, spec = training_step(tracer.open(conversion.task, conversion.model), conversion.loss, conversion.batch)
    Path(conversion.out).write_bytes(graph)
    _beside(conversion).write_bytes(msgspec.json.format(msgspec.json.encode(spec)))


def _one_batch(function: Any, batch: int, quantisation: str, samples: Any) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if quantisation != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantisation == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantisation == "int8":
        if samples is None:
            raise ModelError("full-integer models need representative samples")
        # Every batch size sees the same samples, hence the same ranges: all of them decide alike.
        groups = [samples[i : i + batch] for i in range(0, len(samples) - batch + 1, batch)]
        converter.representative_dataset = lambda: ([np.asarray(group)] for group in groups)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return bytes(converter.convert())


class _Tracer:
    """The graphs of one model, by batch size; kept while its quantisations are made one after another."""

    def __init__(self) -> None:
        self._name = ""
        self._model: Any = None
        self._traced: dict[int, tuple[Any, Any]] = {}

    def open(self, task: str, path: str) -> Any:
        """The Keras model at `path`."""
        import keras

        if path == self._name:
            return self._model
        task_named(task)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ModelError(f"a model has one input and one output, not {len(model.inputs)} and {len(model.outputs)}")
        self._name, self._model, self._traced = path, model, {}
        return model

    def function(self, batch: int) -> Any:
        """The concrete function of exactly `batch` samples."""
        if batch not in self._traced:
            import tensorflow as tf

            from cloud.recurrent import several_steps_a_turn
            from edgebench.tasks.models import with_batch

            fixed = with_batch(self._model, batch)
            several_steps_a_turn(fixed)
            taken = fixed.inputs[0]
            spec = tf.TensorSpec(taken.shape, taken.dtype, name="x")
            function = tf.function(lambda x: fixed(x, training=False), input_signature=[spec])
            # A function does not keep the weights that it uses: the model has to stay.
            self._traced[batch] = (fixed, function.get_concrete_function())
        return self._traced[batch][1]


if __name__ == "__main__":
    main()
