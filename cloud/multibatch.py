"""One LiteRT file that runs at several batch sizes.

LiteRT compiles a recurrent model for one batch size, so a model is converted once for each. Here the results become one
standard file: a signature a batch size, and every weight tensor that the graphs have in common stored once. Any
LiteRT interpreter reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

INPUT = "x"
OUTPUT = "y"
_ALIGNMENT = 16
_IDENTIFIER = b"TFL3"


def signature_name(batch: int) -> str:
    """The signature of a batch size in a merged file."""
    return f"batch_{batch}"


def merged(models: Mapping[int, bytes]) -> bytes:
    """One file from single-graph files, batch size -> file; the smallest batch size becomes the primary graph.

    Each file has one input and one output. They become `x` and `y` of the signature `batch_<size>`.
    """
    from ai_edge_litert import schema_py_generated as schema

    parts = [(batch, schema.ModelT.InitFromPackedBuf(models[batch], 0)) for batch in sorted(models)]
    whole = schema.ModelT()
    whole.version, whole.description = parts[0][1].version, parts[0][1].description
    whole.operatorCodes, whole.subgraphs, whole.signatureDefs = [], [], []
    buffers = _Buffers(schema)
    codes = _Codes(whole.operatorCodes)
    for batch, part in parts:
        first = len(whole.subgraphs)
        for graph in part.subgraphs:
            for tensor in graph.tensors:
                tensor.buffer = buffers.add(part.buffers[tensor.buffer].data)
            for operator in graph.operators or ():
                operator.opcodeIndex = codes.add(part.operatorCodes[operator.opcodeIndex])
                _shift_subgraphs(operator.builtinOptions, first)
        whole.subgraphs.extend(part.subgraphs)
        main = part.subgraphs[0]
        main.name = signature_name(batch).encode()
        whole.signatureDefs.append(_signature(schema, batch, first, main.inputs[0], main.outputs[0]))
    whole.metadata = []
    for entry in parts[0][1].metadata or ():
        entry.buffer = buffers.add(parts[0][1].buffers[entry.buffer].data)
        whole.metadata.append(entry)
    whole.buffers = buffers.all
    return _packed(whole)


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _signature(schema: Any, batch: int, subgraph: int, input_index: int, output_index: int) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = signature_name(batch).encode()
    signature.subgraphIndex = subgraph
    signature.inputs, signature.outputs = [schema.TensorMapT()], [schema.TensorMapT()]
    signature.inputs[0].name, signature.inputs[0].tensorIndex = INPUT.encode(), int(input_index)
    signature.outputs[0].name, signature.outputs[0].tensorIndex = OUTPUT.encode(), int(output_index)
    return signature


def _shift_subgraphs(options: Any, by: int) -> None:
    """A loop or a branch names its bodies by their number in the file."""
    for field in vars(options) if options is not None else ():
        if field.endswith("SubgraphIndex"):
            setattr(options, field, getattr(options, field) + by)


class _Codes:
    """Operator codes, each kept once."""

    def __init__(self, codes: list[Any]) -> None:
        self._codes = codes
        self._index: dict[tuple[Any, ...], int] = {}

    def add(self, code: Any) -> int:
        key = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version)
        if key not in self._index:
            self._index[key] = len(self._codes)
            self._codes.append(code)
        return self._index[key]


class _Buffers:
    """Constant data, equal content kept once. The first buffer is by convention the empty one."""

    def __init__(self, schema: Any) -> None:
        class AlignedBuffer(schema.BufferT):
            """The generated code packs data unaligned; kernels may ask for the alignment of the schema."""

            def Pack(self, builder: Any) -> Any:  # noqa: N802
                data = None
                if self.data is not None:
                    builder.StartVector(1, len(self.data), _ALIGNMENT)
                    builder.head -= len(self.data)
                    builder.Bytes[builder.head : builder.head + len(self.data)] = self.data.tobytes()
                    data = builder.EndVector()
                schema.BufferStart(builder)
                if data is not None:
                    schema.BufferAddData(builder, data)
                return schema.BufferEnd(builder)

        self._new = AlignedBuffer
        self._index: dict[bytes, int] = {b"": 0}
        self.all: list[Any] = [self._new()]

    def add(self, data: Any) -> int:
        """The index of a buffer with this content: uint8 array, or None."""
        array = np.zeros(0, np.uint8) if data is None else np.asarray(data, np.uint8)
        key = array.tobytes()
        if key not in self._index:
            self._index[key] = len(self.all)
            buffer = self._new()
            buffer.data = array
            self.all.append(buffer)
        return self._index[key]
