"""What travels: MessagePack envelopes, and plain JSON for whoever cannot make one.

An envelope is an array, so its first byte is never that of a JSON object, and the two share a topic. All times are ns
of the sender's `clock.now_ns`.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebench.core import samples
from edgebench.core.intake import Accepted
from edgebench.core.samples import Decision, HeadStamps, Incarnation, RejectedError, Sequence, Stamp
from edgebench.decoding import UNREADABLE
from edgebench.fabric.pictures import JPEG, decompressed, picture_size
from edgebench.inference.spec import Manifest, TensorSpec

VERSION = samples.VERSION
_ENVELOPE_OVERHEAD_BYTES = 4096
_LARGEST_RATIO = 4
"""A payload of more than so many times the tensor's bytes is not even decoded; a wrong dtype is still called one."""

_JSON_BYTES_PER_VALUE = 40
_LARGEST_OUTPUT_BYTES = 4 * 65_536


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One input. payload: the raw tensor in C order, little-endian, of `dtype` and `shape`.

    incarnation: of the device; `seq` counts anew in each. A `dtype` of `jpeg` says that it is a JPEG file of the tensor
    of this shape, see `pictures`.
    """

    version: int
    seq: Sequence
    incarnation: Incarnation
    scheduled_ns: Stamp
    captured_ns: Stamp
    sent_ns: Stamp
    dtype: str
    shape: tuple[int, ...]
    label: tuple[float, ...] | None
    payload: memoryview


class Forward(msgspec.Struct, frozen=True, array_like=True):
    """A sample on its way from edge to cloud. envelope: the device's payload, untouched; in a chain a sample that holds
    what the first stage gave, which did so as `head` has it."""

    version: int
    origin: str
    forward_in_ns: Stamp
    forward_out_ns: Stamp
    envelope: memoryview
    head: HeadStamps | None = None


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A decision on its way from cloud to edge. body: what the device gets, less the stamps of the way back."""

    version: int
    origin: str
    body: memoryview


class Gone(msgspec.Struct, frozen=True, array_like=True):
    """In the place of a decision, as an answer's body: the sample was decided, and the cloud no longer has what it
    answered."""

    version: int
    incarnation: Incarnation
    seq: Sequence


class TrialRequest(msgspec.Struct, frozen=True, array_like=True):
    """A sample that the cloud is to decide without further consequence, by the time at which the edge took it in.
    envelope: what the device sent; None where it is only to be answered at once, which tells how long the way is."""

    version: int
    began_ns: Stamp
    envelope: memoryview | None = None


class TrialAnswer(msgspec.Struct, frozen=True, array_like=True):
    """What became of that one. held_ns: how long the cloud had it; None where there was nothing to decide. single_ns,
    each_ns: what its model takes for one sample, and for each of a full batch. let_go: it was not decided, for want of
    room, say."""

    version: int
    began_ns: Stamp
    held_ns: Stamp | None = None
    single_ns: float = 0.0
    each_ns: float = 0.0
    let_go: bool = False


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What an envelope of any version begins with."""

    version: int


class PlainSample(msgspec.Struct, frozen=True):
    """A sample as a microcontroller or `mosquitto_pub` would send it: values flat, or nested as the task's shape."""

    values: list[Any]
    id: str | int | None = None


class PlainDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """The decision on a plain sample; `id` is the sample's."""

    output: list[float]
    model: str
    decider: str
    id: str | int | None = None


E = TypeVar("E", Sample, Decision, Forward, Answer, Gone, TrialRequest, TrialAnswer)

_encoder = msgspec.msgpack.Encoder()
_envelope = msgspec.msgpack.Decoder(_Envelope)
_sample = msgspec.msgpack.Decoder(Sample)
_decision = msgspec.msgpack.Decoder(Decision)
_forward = msgspec.msgpack.Decoder(Forward)
_answer = msgspec.msgpack.Decoder(Answer)
_gone = msgspec.msgpack.Decoder(Gone)
_trial_request = msgspec.msgpack.Decoder(TrialRequest)
_trial_answer = msgspec.msgpack.Decoder(TrialAnswer)
_manifest = msgspec.json.Decoder(Manifest)
_plain = msgspec.json.Decoder(PlainSample)
_json = msgspec.json.Encoder()

encode = _encoder.encode
encode_json = _json.encode


def is_plain(payload: bytes | memoryview) -> bool:
    """Whether a payload is a JSON object rather than an envelope."""
    return len(payload) > 0 and payload[0] == 0x7B


def is_gone(payload: bytes | memoryview) -> bool:
    """Whether an answer's body stands for a decision that is gone: an array of three."""
    return len(payload) > 0 and payload[0] == 0x93


class SampleReader:
    """Reads samples of one input. Made once, since what it checks against is worked out once."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._size_bytes = spec.size_bytes
        self._n_values = spec.size_bytes // self._dtype.itemsize
        self._is_picture = picture_size(spec) is not None

    def read(self, payload: bytes | memoryview) -> Accepted:
        """A sample in either form. Raises RejectedError."""
        if is_plain(payload):
            plain, x = self.plain(payload)
            return Accepted(x, None, plain.id)
        sample, x = self.envelope(payload)
        return Accepted(x, sample.seq, None, sample.incarnation)

    def envelope(self, payload: bytes | memoryview) -> tuple[Sample, NDArray[Any]]:
        """An envelope and its tensor (a view, where it is not compressed), of the spec and finite.

        A picture may come as JPEG. Raises RejectedError.
        """
        if len(payload) > _LARGEST_RATIO * self._size_bytes + _ENVELOPE_OVERHEAD_BYTES:
            raise RejectedError("too-large")
        sample = _decoded(payload, _sample, "not-a-sample")
        if sample.dtype == JPEG and self._is_picture:
            return sample, self._decompressed(sample)
        if sample.dtype != self._spec.dtype:
            raise RejectedError("wrong-dtype")
        if sample.shape != self._spec.shape:
            raise RejectedError("wrong-shape")
        if len(sample.payload) != self._size_bytes:
            raise RejectedError("wrong-length")
        x = np.frombuffer(sample.payload, dtype=self._dtype)
        _check_finite(x)
        return sample, x.reshape(self._spec.shape)

    def _decompressed(self, sample: Sample) -> NDArray[Any]:
        if sample.shape != self._spec.shape:
            raise RejectedError("wrong-shape")
        if len(sample.payload) > self._size_bytes + _ENVELOPE_OVERHEAD_BYTES:
            raise RejectedError("too-large")
        x = decompressed(sample.payload, self._spec)
        if x is None:
            raise RejectedError("not-a-picture")
        return x

    def plain(self, payload: bytes | memoryview) -> tuple[PlainSample, NDArray[Any]]:
        """A plain JSON sample and its tensor, of the spec and finite. Raises RejectedError."""
        if len(payload) > self._n_values * _JSON_BYTES_PER_VALUE + _ENVELOPE_OVERHEAD_BYTES:
            raise RejectedError("too-large")
        try:
            plain = _plain.decode(payload)
        except UNREADABLE:
            raise RejectedError("not-a-sample") from None
        try:
            with np.errstate(over="ignore"):  # what overflows becomes infinite, and is rejected as such
                x = np.asarray(plain.values, dtype=self._dtype)
        except (ValueError, TypeError, OverflowError):
            raise RejectedError("wrong-dtype") from None
        if x.shape != self._spec.shape and x.shape != (self._n_values,):
            raise RejectedError("wrong-shape")
        _check_finite(x.ravel())
        return plain, x.reshape(self._spec.shape)


def parse_decision(payload: bytes | memoryview) -> Decision:
    """A decision. Raises RejectedError."""
    decision = _decoded(payload, _decision, "not-a-decision")
    if len(decision.output) % 4 or len(decision.output) > _LARGEST_OUTPUT_BYTES:
        raise RejectedError("not-a-decision")
    return decision


def parse_manifest(payload: bytes | memoryview) -> Manifest:
    """An announced model. Raises RejectedError."""
    try:
        return _manifest.decode(payload)
    except UNREADABLE:
        raise RejectedError("not-a-manifest") from None


def parse_forward(payload: bytes | memoryview) -> Forward:
    """A forwarded sample. Raises RejectedError."""
    return _decoded(payload, _forward, "not-a-forward")


def parse_answer(payload: bytes | memoryview) -> Answer:
    """A decision from the cloud. Raises RejectedError."""
    return _decoded(payload, _answer, "not-an-answer")


def parse_gone(payload: bytes | memoryview) -> Gone:
    """What stands for a decision that is gone. Raises RejectedError."""
    return _decoded(payload, _gone, "not-a-decision")


def parse_trial_request(payload: bytes | memoryview) -> TrialRequest:
    """A trial. Raises RejectedError."""
    return _decoded(payload, _trial_request, "not-a-trial")


def parse_trial_answer(payload: bytes | memoryview) -> TrialAnswer:
    """What became of a trial. Raises RejectedError."""
    return _decoded(payload, _trial_answer, "not-a-trial")


def _decoded(payload: bytes | memoryview, decoder: msgspec.msgpack.Decoder[E], otherwise: str) -> E:
    """An envelope of this version. Raises RejectedError: `wrong-version`, or the other reason."""
    try:
        envelope = decoder.decode(payload)
    except UNREADABLE:
        raise RejectedError("wrong-version" if _is_of_another_version(payload) else otherwise) from None
    if envelope.version != VERSION:
        raise RejectedError("wrong-version")
    return envelope


def _is_of_another_version(payload: bytes | memoryview) -> bool:
    """Of another layout, so that it could not be read."""
    try:
        return _envelope.decode(payload).version != VERSION
    except UNREADABLE:
        return False


def _check_finite(flat: NDArray[Any]) -> None:
    if flat.dtype.kind != "f":
        return
    # The sum of squares is finite only when every value is; it is one pass without a temporary. When it overflows,
    # each value is looked at. (`vdot` does not warn of an overflow; to silence `dot` takes longer than the sum.)
    if not math.isfinite(np.vdot(flat, flat)) and not np.isfinite(flat).all():
        raise RejectedError("not-finite")
