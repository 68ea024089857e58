"""The built-in client: it trains the weights of a request on its own data and replies with them. Without Flower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edgebench.clock import now_ns
from edgebench.errors import EdgebenchError, ModelError, print_once, reason_of
from edgebench.federated.content import (
    Array,
    Arrays,
    Content,
    ContentError,
    Metrics,
    Parcel,
    arrays_in,
    configs_in,
    reply_head,
)
from edgebench.federated.learner import LocalPlan, Stepper, fit
from edgebench.federated.partition import PartitionFile
from edgebench.seeds import seed_for

_NonNegative = Annotated[float, Meta(ge=0)]
_Count = Annotated[int, Meta(ge=1)]


class _Settings(msgspec.Struct, frozen=True, rename="kebab"):
    """What the server says besides the weights. clipping_norm: of the update, by Flower's differential privacy."""

    local_epochs: _Count
    batch_size: _Count
    learning_rate: _NonNegative
    momentum: _NonNegative
    clip_norm: _NonNegative = 0.0
    proximal_mu: _NonNegative = 0.0
    clipping_norm: Annotated[float, Meta(gt=0)] | None = msgspec.field(default=None, name="clipping_norm")

    @property
    def plan(self) -> LocalPlan:
        return LocalPlan(
            epochs=self.local_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            clip_norm=self.clip_norm,
            proximal_mu=self.proximal_mu,
        )


class BuiltInClient:
    """All clients of one model in a process: they share its training step, and take turns.

    open_stepper: called for the first request. data: part `node` − 1 is that of client `node`.
    """

    def __init__(self, open_stepper: Callable[[], Stepper], data: PartitionFile) -> None:
        self._open_stepper = open_stepper
        self._stepper: Stepper | None = None
        self._data = data

    def answer(self, request: Parcel, node: int, seed: int) -> Parcel:
        """The reply of client `node` (from 1), an error for whatever it cannot do.

        seed: of the run. The order of the samples depends on it, on the client and on the request's group.
        """
        started_ns = now_ns()
        error: str | None = None
        content: Content = {}
        try:
            content = self._learned(request, node, seed)
        except (EdgebenchError, ContentError, msgspec.ValidationError) as wrong:
            error = _one_line(wrong)
        except Exception as failure:  # noqa: BLE001  (a runtime may raise anything; the reply is where it goes)
            print_once(failure)
            error = reason_of(failure)
        stamps = {"started_ns": started_ns, "finished_ns": now_ns()}
        return Parcel(reply_head(request.head, error, stamps), content)

    def _learned(self, request: Parcel, node: int, seed: int) -> Content:
        if request.head.kind != "train":
            what = "evaluate; the cloud does" if request.head.kind == "evaluate" else f"answer '{request.head.kind}'"
            raise EdgebenchError(f"the built-in client does not {what}")
        settings = msgspec.convert(configs_in(request.content), _Settings)
        sent = arrays_in(request.content)
        if self._stepper is None:
            self._stepper = self._open_stepper()
        names = self._stepper.names
        _check_names(names, sent)
        before = [sent[name].numpy() for name in names]
        x, y = self._data.part(node - 1)
        done = fit(self._stepper, before, x, y, settings.plan, seed_for(seed, "local-fit", node, request.head.group))
        if not all(np.isfinite(array).all() for array in done.weights):
            raise ModelError("learning ended in weights that are not finite; lower learning-rate or set clip-norm")
        # "one" is a weight by which all clients count the same.
        metrics: dict[str, Any] = {"num-examples": done.examples, "one": 1, "train-loss": done.loss}
        after = done.weights
        if settings.clipping_norm is not None:
            after, clipped = clipped_update(after, before, settings.clipping_norm)
            metrics["norm_bit"] = int(clipped)
        learned = dict(zip(names, map(Array.of, after), strict=True))
        # In the order in which they came: robust strategies go by place.
        return {"arrays": Arrays({name: learned[name] for name in sent}), "metrics": Metrics(metrics)}


def clipped_update(
    after: Sequence[NDArray[np.float32]], before: Sequence[NDArray[np.float32]], clipping_norm: float
) -> tuple[list[NDArray[np.float32]], bool]:
    """`before` plus the update from it to `after`, scaled down to a norm of `clipping_norm`, and whether it was larger.

    Bit for bit what Flower's fixedclipping_mod and adaptiveclipping_mod make of it, except that a zero update passes.
    Source: McMahan et al. 2018, flat clipping.
    """
    update = [there - here for there, here in zip(after, before, strict=True)]
    norm = float(np.sqrt(sum(np.linalg.norm(array.ravel()) ** 2 for array in update)))
    scale = min(1.0, clipping_norm / norm) if norm else 1.0
    return [here + array * scale for here, array in zip(before, update, strict=True)], scale < 1


def _check_names(names: Sequence[str], sent: Mapping[str, Array]) -> None:
    lacking = next((name for name in names if name not in sent), None)
    if lacking is not None:
        raise ModelError(f"weights '{lacking}' of the model were not sent")
    strange = next((name for name in sent if name not in set(names)), None)
    if strange is not None:
        raise ModelError(f"weights '{strange}' were sent, which the model does not have")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
