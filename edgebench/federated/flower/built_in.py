"""The built-in app's server: it learns one model, for so many rounds, with a strategy of Flower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from edgebench.federated.cohort import cloud_fraction
from edgebench.federated.content import Array, Arrays
from edgebench.federated.flower.buffered import Buffered
from edgebench.federated.flower.events import Learned
from edgebench.federated.flower.grid import identity
from edgebench.federated.flower.journal import Checkpoint, Journal
from edgebench.federated.flower.messages import SERVER_NODE, to_content, to_records
from edgebench.federated.flower.observed import Check, ObservedGrid
from edgebench.federated.flower.strategies import make_strategy
from edgebench.federated.reply_checks import check_round
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
    most_examples: Mapping[int, int] | None = None,
) -> dict[str, Array]:
    """Learn for `how.rounds` rounds, and return the last model.

    initial: float32 by name. on_model: called with the initial model as round 0, and after each round. before_round:
    called before each round that is not replayed; it may wait. state_dir: where to keep what a restart goes on from.
    most_examples: how many examples each client has, by node id; who claims more is refused.
    """
    assert how.rounds is not None
    grid.most_examples = most_examples or {}
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
        try:
            return _rounds(grid, how, initial, seed=seed, on_model=on_model, before_round=before_round)
        finally:
            grid.finish()


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
        fraction=cloud_fraction(how),
        learning_rate=how.fit.learning_rate,
    )
    # A private strategy bounds each update by clipping it. Whether one is refused may not depend on the others' data:
    # nobody accounts for what that tells.
    grid.check = guarding(None if strategy.is_private else how.max_update_ratio, uniform=strategy.is_private)
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


def guarding(max_update_ratio: float | None, *, uniform: bool) -> Check:
    """The guard of a round, as `check_round` has it; what clients claim to have is the grid's to check."""
    return partial(check_round, max_update_ratio=max_update_ratio, uniform=uniform)


def _arrays(arrays: ArrayRecord) -> dict[str, Array]:
    content = to_content(RecordDict({_ARRAYS: arrays}))
    record = content[_ARRAYS]
    assert isinstance(record, Arrays)
    return record.items
