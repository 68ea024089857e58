"""Pictures from a camera, a file, an address or one of FFmpeg's sources, by PyAV."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from device_agent.sensors.live import ReadingError, Taken, taken_now
from edgebench.clock import NS_PER_S, now_ns
from edgebench.fabric.sensors import DEVICES, LAVFI, SensorChoice, SensorError, check_camera
from edgebench.inference.spec import TensorSpec

if TYPE_CHECKING:
    import av

_OPEN_S, _FRAME_S = 10.0, 10.0
_MOST_BROKEN = 100
"""Packets in a row."""
_FORMATS = {1: "gray", 3: "rgb24"}


class Pictures:
    """Fits frames into samples uint8 [height, width, 1 or 3]: the middle of a frame, as large as the sample's aspect
    allows, scaled to its size."""

    def __init__(self, spec: TensorSpec) -> None:
        """Raises SensorError where samples are no pictures."""
        if spec.dtype != "uint8" or len(spec.shape) != 3 or spec.shape[2] not in _FORMATS:
            raise SensorError(f"gives pictures, and a sample is {spec.dtype} {list(spec.shape)}")
        self._height, self._width, channels = spec.shape
        self._format = _FORMATS[channels]

    def take(self, reading: av.VideoFrame) -> av.VideoFrame:
        """See `Fitting`. What is not sensed is not scaled."""
        if min(reading.width, reading.height) < 1:
            raise ReadingError("a frame without a pixel")
        return reading

    def sample(self, kept: av.VideoFrame) -> NDArray[Any]:
        """See `Fitting`."""
        scale = max(self._height / kept.height, self._width / kept.width)
        height = max(self._height, round(kept.height * scale))
        width = max(self._width, round(kept.width * scale))
        picture = kept.reformat(width, height, format=self._format).to_ndarray()
        top, left = (height - self._height) // 2, (width - self._width) // 2
        cut = picture[top : top + self._height, left : left + self._width]
        return np.ascontiguousarray(cut).reshape(self._height, self._width, -1)


class Camera:
    """Reads frames. A file and FFmpeg's sources are played at their own pace, a file over and over."""

    def __init__(self, choice: SensorChoice) -> None:
        """Raises SensorError where PyAV is not there, or nothing is to be read."""
        try:
            import av
        except ImportError:
            raise SensorError("a camera is read by PyAV, which is not installed (pip install av)") from None
        self._open = av.open
        self._error = av.FFmpegError
        self._broken = av.error.InvalidDataError
        source, options = choice.source, ""
        if source.startswith(DEVICES):
            source, _, options = source.partition("?")
        self._options = dict(parse_qsl(options))
        self._format: str | None = None
        self._is_paced = False
        if source.startswith(LAVFI):
            source, self._format, self._is_paced = source.removeprefix(LAVFI), "lavfi", True
        elif source.startswith(DEVICES):
            self._format = "v4l2"
        elif "://" not in source:
            source, self._is_paced = str(choice.path), True
        check_camera(choice)
        self._source = source

    def read(self, over: threading.Event) -> Iterator[Taken]:
        """Frames, until it is over. Raises SensorError."""
        while not over.is_set():
            frames = 0
            try:
                with self._open(
                    self._source, format=self._format, options=self._options, timeout=(_OPEN_S, _FRAME_S)
                ) as container:
                    if not container.streams.video:
                        raise SensorError("holds no picture")
                    for taken in self._frames(container, over):
                        frames += 1
                        yield taken
            except self._error as error:
                raise SensorError(error.strerror or str(error)) from error
            if not self._is_paced or not frames:
                raise SensorError("gives no more frames" if frames else "gives no frame")

    def _frames(self, container: Any, over: threading.Event) -> Iterator[Taken]:
        began_ns: int | None = None
        for frame in self._decoded(container):
            if self._is_paced and frame.time is not None:
                at_ns = round(frame.time * NS_PER_S)
                began_ns = now_ns() - at_ns if began_ns is None else began_ns
                if over.wait(max(0, began_ns + at_ns - now_ns()) / NS_PER_S):
                    return
            yield taken_now(frame)

    def _decoded(self, container: Any) -> Iterator[Any]:
        """All frames but those of packets that cannot be decoded, of which there may be some."""
        broken = 0
        for packet in container.demux(video=0):
            try:
                frames = packet.decode()
            except self._broken:
                broken += 1
                if broken > _MOST_BROKEN:
                    raise
                continue
            broken = 0 if frames else broken
            yield from frames
