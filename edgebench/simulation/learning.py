"""What devices learn together, as a simulation has it: who is asked, for how many steps, and what all of it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgebench.errors import EdgebenchError, TopologyError
from edgebench.fabric.records import Partitioned
from edgebench.federated.cohort import cloud_fraction
from edgebench.federated.partition import describe_partition, partition
from edgebench.simulation.fleet import Fleet, Group
from edgebench.simulation.learning_times import (
    OF_SITE,
    aggregate_cost,
    asked_by,
    is_built_in,
    learned_cost,
    size_cost,
    steps_of,
)
from edgebench.simulation.places import places_of
from edgebench.simulation.service_times import Cost, Ints, ServiceTimes, UntoldError
from edgebench.tasks import task_named
from edgebench.topology import profiles_of
from edgebench.topology.deployment import FederatedPlan
from edgebench.topology.model import Partition, Topology
from edgebench.topology.profiles import Profile, TrainingCost
from edgebench.topology.wording import one_line


@dataclass(frozen=True)
class Messages:
    """What a model takes on its way from a server to a client, and the answer on its way back, besides links, ns:
    fetch, hand_in each for itself, serve, take one after another at the server. content_bytes, update_bytes: of both,
    to within what the names of messages differ by."""

    fetch: Ints
    serve: Ints
    hand_in: Ints
    take: Ints
    content_bytes: int
    update_bytes: int


@dataclass(frozen=True)
class Learner:
    """What learning takes on devices of a group, ns. step: in the mean of a request, or as a profile has it; first: in
    that of the first round."""

    step: Ints | TrainingCost
    first: Ints | TrainingCost
    begin: Ints


@dataclass(frozen=True)
class Learning:
    """A federation. workload: its name. samples, groups: of each client's share of the data. learners: by group.
    messages: between the cloud and those that it asks; of_sites: between edges and devices, where edges aggregate, and
    else the same.
    aggregate, aggregate_at_sites: ns, by the number of answers. site: what an edge takes besides its rounds, ns.
    min_replies: with fewer good ones a round makes no model."""

    plan: FederatedPlan
    samples: tuple[int, ...]
    groups: tuple[int, ...]
    learners: Mapping[str, Learner]
    messages: Messages
    of_sites: Messages
    aggregate: Mapping[int, Ints]
    aggregate_at_sites: Mapping[int, Ints]
    next_round: Ints
    site: Ints
    min_replies: int

    @property
    def workload(self) -> str:
        """Whose model is learned."""
        return self.plan.how.workload

    def steps(self, client: int) -> int:
        """How many steps a client takes, by its number from 0."""
        return steps_of(self.samples[client], self.plan)

    @property
    def partitioned(self) -> Partitioned:
        """As a run writes it down."""
        how = describe_partition(self.plan.how.partition)
        return Partitioned(self.workload, how, list(self.samples), list(self.groups))


def learning_of(topology: Topology, fleet: Fleet, times: ServiceTimes, file: str | Path) -> tuple[Learning, ...]:
    """The federations of a topology that was checked. Raises TopologyError with a line for each of which something is
    not known."""
    if not topology.federated:
        return ()
    found, problems = [], []
    profiles = {profile.name: profile for profile in profiles_of(topology).values()}
    plans = places_of(fleet).deployment(topology, "", topology.data).federated
    for index, plan in enumerate(plans.values()):
        try:
            found.append(_Costs(topology, fleet, times, profiles, plan).learning())
        except UntoldError as error:
            run = "of two rounds or more, on one machine, across links with latencies and no rates"
            mend = f"(name a run with this federation by --calibrate, {run})"
            problems.append(one_line(f"{file}: $.federated[{index}]: {error} {mend}"))
        except EdgebenchError as error:
            problems.append(one_line(f"{file}: $.federated[{index}]: {error}"))
    if problems:
        raise TopologyError(problems)
    return tuple(found)


class _Costs:
    """Of one federation."""

    def __init__(
        self,
        topology: Topology,
        fleet: Fleet,
        times: ServiceTimes,
        profiles: Mapping[str, Profile],
        plan: FederatedPlan,
    ) -> None:
        assert is_built_in(plan)
        self._topology = topology
        self._fleet = fleet
        self._times = times
        self._profiles = profiles
        self._plan = plan
        self._workload = topology.workloads[plan.how.workload]

    def learning(self) -> Learning:
        """Raises UntoldError where no run tells."""
        from edgebench.federated.flower.strategies import make_strategy  # Flower takes a second to be imported

        plan, how, task, size = self._plan, self._plan.how, self._workload.task, self._workload.model.size
        shares = _shares(task, self._topology.data, how.partition, len(plan.clients), self._topology.seed)
        cost, aggregating = self._times.cost, self._times.aggregating
        strategy = make_strategy(
            how.strategy.name, how.strategy.args, clients=len(plan.asked), fraction=cloud_fraction(how)
        )
        messages = self._messages(asked_by("cloud", "edge" if plan.edges_aggregate else "device"))
        return Learning(
            plan=plan,
            samples=shares[0],
            groups=shares[1],
            learners={group.name: self._learner(group) for group in map(self._group, self._workload.sources)},
            messages=messages,
            of_sites=self._messages(OF_SITE) if plan.edges_aggregate else messages,
            aggregate=aggregating(aggregate_cost("cloud", plan, task, size)),
            aggregate_at_sites=aggregating(aggregate_cost("edge", plan, task, size)) if plan.edges_aggregate else {},
            next_round=cost(Cost("next-round", task=task, how=size)),
            site=cost(Cost("site", task=task, how=size)) if plan.edges_aggregate else np.zeros(1, np.int64),
            min_replies=max(how.min_replies, strategy.min_replies),
        )

    def _group(self, source: str) -> Group:
        return self._fleet.groups[source]

    def _learner(self, group: Group) -> Learner:
        """What a profile holds goes before what a run tells, which is of as many steps as it had."""
        how, task, size = self._plan.how, self._workload.task, self._workload.model.size
        profile = self._profiles.get(group.profile)
        known = None if profile is None else profile.training_cost(task, size, how.fit, how.batch_size)
        if known is not None:
            return Learner(known, known, np.zeros(1, np.int64))  # all that it takes besides is in `rest`
        cost = self._times.cost
        later, first = (learned_cost(group.profile, self._plan, task, size, first=first) for first in (False, True))
        # Of one round alone the first has to do, and where no first one was undisturbed, another.
        return Learner(cost(later, first), cost(first, later), cost(Cost("begin-learning", group.profile)))

    def _messages(self, whom: str) -> Messages:
        cost, task, how = self._times.cost, self._workload.task, size_cost(self._workload.model.size, whom)
        return Messages(
            fetch=cost(Cost("fetch", how=whom)),
            serve=cost(Cost("serve", how=whom)),
            hand_in=cost(Cost("hand-in", how=whom)),
            take=cost(Cost("take", how=whom)),
            content_bytes=_middle(cost(Cost("content", task=task, how=how))),
            update_bytes=_middle(cost(Cost("update", task=task, how=how))),
        )


def _middle(values: Ints) -> int:
    """Of what is the same each time but for the digits of a number."""
    return int(values[len(values) // 2])


@lru_cache(maxsize=16)
def _shares(
    task: str, data: str | None, how: Partition, clients: int, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Samples and groups of each client, as a run shares them out. Raises EdgebenchError."""
    train = task_named(task).load(None if data is None else Path(data), seed=seed).train
    parts = partition(train, how, clients, seed)
    return tuple(map(len, parts)), tuple(len(np.unique(train.group[rows])) for rows in parts)
