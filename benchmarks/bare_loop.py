"""The bare loop that `stream.py` holds the system against: paho in, LiteRT, paho out, and nothing else.

    python benchmarks/bare_loop.py decide HOST PORT QOS MODEL BATCH
    python benchmarks/bare_loop.py send HOST PORT QOS SAMPLES QUERY SECONDS

Two processes. `send` publishes queries of QUERY raw samples at once, the next when the last is decided; for SECONDS,
or one query where that is 0. It prints `{"decided", "s"}`: the decisions, and the time from the first sample to the
last decision. `decide` prints `ready` when it can begin, and at the end `{"calls", "call_us"}`: how often it called the
interpreter, and the median time of one call: `set_tensor`, `invoke`, `get_tensor`. A sample is the raw tensor with 72
bytes before it (what an envelope of edgebench adds), a decision the first 8 of them and the output.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edgebench.clock import NS_PER_S, now_ns

HEAD_BYTES = 72
_AT_ONCE = 256
"""As many as a device agent sends between two looks at what has come in."""
_END = b"end"


def main(arguments: list[str]) -> None:
    """Be one of the two processes."""
    role, host, port, qos, *more = arguments
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"bare-{role}", clean_session=True)
    client.max_inflight_messages_set(60_000)
    client.max_queued_messages_set(60_000)
    client.connect(host, int(port))
    if role == "decide":
        _decide(client, int(qos), *more)
    else:
        _send(client, int(qos), *more)


def _decide(client: paho.Client, qos: int, model: str, batch: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    at_once = int(batch)
    interpreter: Any = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    index, result, shape = taken["index"], given["index"], tuple(taken["shape"])
    waiting: list[bytes | bytearray] = []
    calls_ns: list[int] = []

    def received(_client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        if message.payload == _END:
            client.disconnect()
            return
        waiting.append(message.payload)
        if len(waiting) < at_once:
            return
        tensors = [np.frombuffer(payload, np.float32, offset=HEAD_BYTES) for payload in waiting]
        x = (tensors[0] if at_once == 1 else np.stack(tensors)).reshape(shape)
        start_ns = now_ns()
        interpreter.set_tensor(index, x)
        interpreter.invoke()
        outputs = interpreter.get_tensor(result)
        calls_ns.append(now_ns() - start_ns)
        for payload, output in zip(waiting, outputs, strict=True):
            client.publish("bare/decision", payload[:8] + output.tobytes(), qos=qos)
        waiting.clear()

    client.on_message = received
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.subscribe("bare/sample", qos)
    client.loop_forever()
    print(json.dumps({"calls": len(calls_ns), "call_us": statistics.median(calls_ns) / 1e3}), flush=True)


def _send(client: paho.Client, qos: int, samples: str, query: str, seconds: str) -> None:
    x = np.load(samples, mmap_mode="r")
    size = int(query)
    head = b"\0" * (HEAD_BYTES - 8)
    decided = sent = 0
    subscribed = False

    def received(_client: paho.Client, _userdata: object, _message: paho.MQTTMessage) -> None:
        nonlocal decided
        decided += 1

    def stand(*_: object) -> None:
        nonlocal subscribed
        subscribed = True

    client.on_message = received
    client.on_subscribe = stand
    client.subscribe("bare/decision", qos)
    while not subscribed:
        client.loop(0.1)
    start_ns = now_ns()
    until_ns = start_ns + int(float(seconds) * NS_PER_S)
    while True:
        asked = sent + size
        while decided < asked:
            for _ in range(min(_AT_ONCE, asked - sent)):
                client.publish("bare/sample", sent.to_bytes(8, "big") + head + x[sent % len(x)].tobytes(), qos=qos)
                sent += 1
            client.loop(0.0 if sent < asked else 0.1)
        if now_ns() >= until_ns:
            break
    took_s = (now_ns() - start_ns) / NS_PER_S
    print(json.dumps({"decided": decided, "s": took_s}), flush=True)
    client.publish("bare/sample", _END, qos=qos)
    client.disconnect()
    client.loop_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
