"""The built-in app's server: it learns one model, for so many rounds, with a strategy of Flower."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from edgebench.federated.content import Array, Arrays, Metrics, Parcel, metrics_in
from edgebench.federated.flower.buffered import Buffered
from edgebench.federated.flower.events import Learned
from edgebench.federated.flower.grid import identity
from edgebench.federated.flower.journal import Checkpoint, Journal
from edgebench.federated.flower.messages import SERVER_NODE, to_content, to_records
from edgebench.federated.flower.observed import Check, ObservedGrid
from edgebench.federated.flower.strategies import UNIFORM, make_strategy
from edgebench.federated.guard import Guard
from edgebench.topology.model import Federated

_ARRAYS = "arrays"


def run_built_in(
    grid: ObservedGrid,
    how: Federated,
    initial: Mapping[str, Array],
    *,
    seed: int,
    on_model: Callable[[Learned], None],
    before_round: Callable[[int], None] = lambda _round: None,
    state_dir: Path | None = None,
) -> dict[str, Array]:
    """Learn for `how.rounds` rounds, and return the last model.

    initial: float32 by name. on_model: called with the initial model as round 0, and after each round. before_round:
    called before each round that is not replayed; it may wait. state_dir: where to keep what a restart goes on from.
    """
    assert how.rounds is not None
    with identity(grid.run.run_id, SERVER_NODE):
        if how.mode == "buffered":
            return Buffered(
                grid,
                how,
                config=train_config(how, seed),
                check=guarding(how.max_update_ratio, uniform=False),
                on_model=on_model,
                before_round=before_round,
                checkpoint=None if state_dir is None else Checkpoint(state_dir),
            ).run(initial)
        if state_dir is not None:
            grid.resume(Journal(state_dir))
        return _rounds(grid, how, initial, seed=seed, on_model=on_model, before_round=before_round)


def _rounds(
    grid: ObservedGrid,
    how: Federated,
    initial: Mapping[str, Array],
    *,
    seed: int,
    on_model: Callable[[Learned], None],
    before_round: Callable[[int], None],
) -> dict[str, Array]:
    strategy = make_strategy(
        how.strategy.name,
        how.strategy.args,
        clients=len(grid.get_node_ids()),
        fraction=how.fraction,
        learning_rate=how.fit.learning_rate,
    )
    grid.check = guarding(how.max_update_ratio, uniform=strategy.uniform)
    grid.min_replies = max(how.min_replies, strategy.min_replies)
    replayed = grid.replaying
    model: dict[str, Array] = {}

    def begin(server_round: int) -> None:
        nonlocal replayed
        replayed = grid.replaying
        if not replayed:
            before_round(server_round)

    def end(server_round: int, arrays: ArrayRecord) -> None:
        nonlocal model
        model = _arrays(arrays)
        on_model(
            Learned(
                round=server_round,
                arrays=model,
                metrics=dict(strategy.metrics),
                privacy=strategy.privacy(),
                skipped=strategy.skipped,
                replayed=replayed,
            )
        )

    strategy.before_round = begin
    assert how.rounds is not None
    strategy.start(
        grid,
        to_records({_ARRAYS: Arrays(dict(initial))}).array_records[_ARRAYS],
        num_rounds=how.rounds,
        timeout=how.deadline_s,
        train_config=ConfigRecord(train_config(how, seed)),
        evaluate_fn=end,
    )
    return model


def train_config(how: Federated, seed: int) -> dict[str, Any]:
    """What the built-in client is told besides the model; a strategy adds `server-round`, and its own."""
    return {
        "local-epochs": how.local_epochs,
        "batch-size": how.batch_size,
        "learning-rate": how.fit.learning_rate,
        "momentum": how.fit.momentum,
        "clip-norm": how.fit.clip_norm,
        "seed": seed,
    }


def guarding(max_update_ratio: float, *, uniform: bool) -> Check:
    """The guard of a round. uniform: whether all clients have to count the same."""

    def check(sent: Mapping[str, Array], replies: Sequence[Parcel]) -> dict[int, str]:
        guard = Guard(sent, max_update_ratio)
        wrong = {index: reason for index, reply in enumerate(replies) if (reason := guard.check(reply)) is not None}
        if uniform:
            for index, reply in enumerate(replies):
                if metrics_in(reply.content).get(UNIFORM) != 1:
                    wrong.setdefault(index, f"metric '{UNIFORM}' is not 1")
        wrong = {**_unlike(replies, wrong), **wrong}
        sound = [index for index in range(len(replies)) if index not in wrong]
        outliers = guard.outliers([replies[index] for index in sound])
        return wrong | {sound[place]: reason for place, reason in outliers.items()}

    return check


def _unlike(replies: Sequence[Parcel], wrong: Mapping[int, str]) -> dict[int, str]:
    """Sound replies whose records or metrics have other names than most: Flower would refuse all for their sake."""
    names = {
        index: tuple(
            (name, tuple(sorted(record.items)) if isinstance(record, Metrics) else ())
            for name, record in sorted(reply.content.items())
        )
        for index, reply in enumerate(replies)
        if index not in wrong
    }
    if not names:
        return {}
    usual = Counter(names.values()).most_common(1)[0][0]
    return {index: "its records have other names than most" for index, own in names.items() if own != usual}


def _arrays(arrays: ArrayRecord) -> dict[str, Array]:
    content = to_content(RecordDict({_ARRAYS: arrays}))
    record = content[_ARRAYS]
    assert isinstance(record, Arrays)
    return record.items
