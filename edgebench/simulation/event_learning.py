"""Federations in virtual time: rounds of the cloud and of edges, beside the streams and across the same links.

Who is asked, how long is waited for, and what a round needs are the rules of a run (`federated.cohort`); models and
answers go as files do (`event_files`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from cloud.link_turns import LinkTurns, ask_first, links_with_samples
from edgebench.clock import NS_PER_S
from edgebench.core.fake_transport import VirtualTime
from edgebench.core.lanes import WAYS
from edgebench.core.links import Lane
from edgebench.fabric.records import RoundRecord
from edgebench.federated.cohort import OF_DEADLINE, cloud_fraction, cohort_size, inner_group, site_cohort
from edgebench.results.federations import links_between
from edgebench.seeds import rng_for
from edgebench.simulation.event_files import FilesWay, TurnTable
from edgebench.simulation.event_learners import (
    Asked,
    Chance,
    Client,
    FileServer,
    LearnerSlots,
    LearningDevice,
    MessageWay,
    give_up,
    if_wanted,
)
from edgebench.simulation.learning import Learner, Learning, Messages
from edgebench.simulation.service_times import aggregate_ns
from edgebench.topology.deployment import Deployment, FederatedPlan
from edgebench.topology.profiles import TrainingCost

_KIND = "train"


class _Exchange:
    """Clients are asked at a time. over: all of them have answered, or time is up."""

    def __init__(
        self,
        time: VirtualTime,
        clients: Mapping[str, Client],
        number: int,
        deadline_s: float,
        too_late: str,
        over: Callable[[list[Asked]], None],
    ) -> None:
        """clients: by their names, in their order. number: of what is drawn. too_late: what becomes of an answer that
        does not come in time."""
        self._time = time
        self._over = over
        self._too_late = too_late
        now_ns = time.now_ns()
        self._clients = list(clients.values())
        self._asked = [Asked(name, number, now_ns, self._answered) for name in clients]
        self._lacking = len(self._asked)
        self._late_ns = now_ns + int(deadline_s * NS_PER_S)

    def begin(self) -> None:
        """Ask all of them."""
        for client, asked in zip(self._clients, self._asked, strict=True):
            client.ask(asked)
        self._time.call_at(self._late_ns, self._is_late)

    def call_off(self) -> None:
        """Who asked for it does not wait for it any more."""
        self._end("the cloud has given it up")

    def _answered(self, asked: Asked) -> None:
        asked.is_wanted = False
        self._lacking -= 1
        if not self._lacking:
            self._over(self._asked)

    def _is_late(self) -> None:
        self._end(self._too_late)

    def _end(self, why: str) -> None:
        if self._lacking:
            self._lacking = 0
            give_up(self._asked, why)
            self._over(self._asked)


class _Site:
    """An edge that answers the cloud as one client, by rounds of its own."""

    def __init__(
        self,
        time: VirtualTime,
        name: str,
        way: MessageWay,
        devices: Mapping[str, LearningDevice],
        learning: Learning,
        client: int,
        seed: int,
        rounds: list[RoundRecord],
    ) -> None:
        """client: its number among the cloud's. rounds: where those that it holds are written down."""
        self._time = time
        self._name = name
        self._way = way
        self._devices = devices
        self._learning = learning
        self._client = client
        self._seed = seed
        self._rounds = rounds
        self._chance = Chance(seed, learning.workload, "edge")

    def ask(self, asked: Asked) -> None:
        """Ask it for what its devices have learned."""
        self._way.ask(asked, self._client, partial(self._begin, asked))

    def _begin(self, asked: Asked) -> None:
        asked.started_ns = self._time.now_ns()
        until_ns = asked.started_ns + int(OF_DEADLINE * self._learning.plan.how.deadline_s * NS_PER_S)
        self._hold(asked, 1, until_ns, 0)

    def _hold(self, asked: Asked, inner: int, until_ns: int, examples: int) -> None:
        """Hold a round, or answer. examples: of the last that made a model."""
        how = self._learning.plan.how
        left_s = (until_ns - self._time.now_ns()) / NS_PER_S
        if not asked.is_wanted:
            return
        if inner > how.edge_rounds or left_s <= 0:
            self._answer(asked, examples)
            return
        cohort = site_cohort(
            tuple(self._devices), how.fraction, self._seed, self._name, inner_group(str(asked.number), inner)
        )
        deadline_s = left_s / (how.edge_rounds - inner + 1)
        started_ns = self._time.now_ns()

        def over(replies: list[Asked]) -> None:
            asked.on_given_up.remove(exchange.call_off)
            gathered_ns = self._time.now_ns()
            good = [reply for reply in replies if reply.is_good]
            takes_ns = 0
            if len(good) >= how.min_replies:
                of_so_many = aggregate_ns(self._learning.aggregate_at_sites, len(good))
                takes_ns = self._chance.of("aggregate at site", of_so_many, self._client, asked.number)
            ended = partial(self._ended, asked, inner, until_ns, examples, started_ns, gathered_ns, replies)
            self._time.call_at(gathered_ns + takes_ns, ended)

        # What is drawn differs from one inner round to the next.
        number = (asked.number - 1) * how.edge_rounds + inner
        devices = {name: self._devices[name] for name in cohort}
        exchange = _Exchange(self._time, devices, number, deadline_s, f"no reply within {deadline_s:.3g} s", over)
        asked.on_given_up.append(exchange.call_off)
        exchange.begin()

    def _ended(
        self,
        asked: Asked,
        inner: int,
        until_ns: int,
        examples: int,
        started_ns: int,
        gathered_ns: int,
        replies: list[Asked],
    ) -> None:
        how, skipped = self._learning.plan.how, None
        good = [reply for reply in replies if reply.is_good]
        if len(good) >= how.min_replies:
            examples = sum(reply.examples or 0 for reply in good)
        else:
            skipped = f"{len(good)} of {len(replies)} replies of the site are good, {how.min_replies} must be"
            if not examples and asked.is_wanted:
                asked.failure = skipped
        self._rounds.append(
            RoundRecord(
                workload=self._learning.workload,
                server=self._name,
                kind=_KIND,
                number=asked.number,
                inner=inner,
                started_ns=started_ns,
                gathered_ns=gathered_ns,
                ended_ns=self._time.now_ns(),
                replies=tuple(reply.record(self._learning.of_sites) for reply in replies),
                skipped=skipped,
            )
        )
        self._hold(asked, inner + 1, until_ns, examples)

    def _answer(self, asked: Asked, examples: int) -> None:
        """With what the site has learned, or why it has not."""
        asked.examples = examples or None
        if examples:
            asked.failure = None
        elif asked.failure is None:
            asked.failure = "the cloud's deadline leaves no time for a round"
        rest_ns = self._chance.of("site", self._learning.site, self._client, asked.number)

        def finished() -> None:
            asked.finished_ns = self._time.now_ns()
            self._way.answer(asked, self._client)

        self._time.call_at(self._time.now_ns() + rest_ns, if_wanted(asked, finished))


class VirtualFederation:
    """The cloud's side of one federation: a round after another, until all are held. rounds: those of the cloud and of
    its edges, in the order in which they ended."""

    def __init__(
        self, time: VirtualTime, learning: Learning, clients: Mapping[str, Client], cloud: str, seed: int
    ) -> None:
        """clients: of the cloud, by their names, in their order."""
        self.rounds: list[RoundRecord] = []
        self._time = time
        self._learning = learning
        self._clients = clients
        self._cloud = cloud
        self._seed = seed
        self._chance = Chance(seed, learning.workload, "cloud")
        self._next_ns = int(learning.plan.how.at_s * NS_PER_S)
        self._number = 0

    @property
    def is_over(self) -> bool:
        """Whether all its rounds are held."""
        return self._number > (self._learning.plan.how.rounds or 0)

    def begin(self) -> None:
        """The streams begin."""
        self._next()

    def _next(self) -> None:
        self._number += 1
        if self.is_over:
            return
        how = self._learning.plan.how
        begin_ns = max(self._next_ns, self._time.now_ns())
        self._next_ns = begin_ns + int(how.interval_s * NS_PER_S)
        self._time.call_at(begin_ns + self._chance.of("next", self._learning.next_round, 0, self._number), self._hold)

    def _hold(self) -> None:
        how, started_ns = self._learning.plan.how, self._time.now_ns()
        names = list(self._clients)
        count = cohort_size(len(names), cloud_fraction(how))
        rng = rng_for(self._seed, "simulate", "cohort", self._learning.workload, str(self._number))
        cohort = sorted(rng.permutation(len(names))[:count].tolist())
        clients = {names[place]: self._clients[names[place]] for place in cohort}
        too_late = f"no reply within {how.deadline_s:g} s"
        over = partial(self._gathered, started_ns)
        _Exchange(self._time, clients, self._number, how.deadline_s, too_late, over).begin()

    def _gathered(self, started_ns: int, replies: list[Asked]) -> None:
        gathered_ns = self._time.now_ns()
        good = sum(reply.is_good for reply in replies)
        takes_ns = 0
        if good >= self._learning.min_replies:
            of_so_many = aggregate_ns(self._learning.aggregate, good)
            takes_ns = self._chance.of("aggregate", of_so_many, 0, self._number)
        ended = partial(self._ended, started_ns, gathered_ns, replies, good)
        self._time.call_at(gathered_ns + takes_ns, ended)

    def _ended(self, started_ns: int, gathered_ns: int, replies: list[Asked], good: int) -> None:
        needed, skipped = self._learning.min_replies, None
        if good < needed:
            skipped = f"{good} of {len(replies)} replies are good, {needed} needed"
        record = RoundRecord(
            workload=self._learning.workload,
            server=self._cloud,
            kind=_KIND,
            number=self._number,
            inner=0,
            started_ns=started_ns,
            gathered_ns=gathered_ns,
            ended_ns=self._time.now_ns(),
            replies=tuple(reply.record(self._learning.messages) for reply in replies),
            skipped=skipped,
        )
        self.rounds.append(record)
        self._next()


class VirtualFederations:
    """All of a topology: they share servers, links and turns."""

    def __init__(
        self,
        time: VirtualTime,
        deployment: Deployment,
        learnings: Sequence[Learning],
        lanes: Mapping[str, tuple[Lane, Lane]],
    ) -> None:
        """lanes: up and down, by link."""
        self._time = time
        self._deployment = deployment
        self._lanes = lanes
        self._servers: dict[str, FileServer] = {}
        self._slots: dict[tuple[object, ...], LearnerSlots] = {}
        self._turns, self._table = LinkTurns(deployment, lambda: 0), TurnTable(time)
        self._ask_first = ask_first(deployment, deployment.nodes, links_with_samples(deployment)) if learnings else ()
        self._federations = [self._federation(learning) for learning in learnings]

    @property
    def are_over(self) -> bool:
        """Whether all rounds are held."""
        return all(each.is_over for each in self._federations)

    @property
    def rounds(self) -> list[RoundRecord]:
        """All of them."""
        return [record for each in self._federations for record in each.rounds]

    def begin(self) -> None:
        """The streams begin."""
        for each in self._federations:
            each.begin()

    def _federation(self, learning: Learning) -> VirtualFederation:
        plan, seed, cloud = learning.plan, self._deployment.seed, self._deployment.cloud
        clients: dict[str, Client] = {}
        found = VirtualFederation(self._time, learning, clients, cloud, seed)
        devices = dict(self._devices(learning))
        if not plan.edges_aggregate:
            clients.update(devices)
            return found
        for number, (edge, below) in enumerate(plan.edges.items()):
            way = self._way(learning, learning.messages, edge, cloud, frozenset({edge}))
            of_site = {device: devices[device] for device in below}
            clients[edge] = _Site(self._time, edge, way, of_site, learning, number, seed, found.rounds)
        return found

    def _devices(self, learning: Learning) -> Iterator[tuple[str, LearningDevice]]:
        plan, nodes = learning.plan, self._deployment.nodes
        agents: dict[tuple[str, str | None], list[str]] = {}
        for node in self._deployment.of_tier("device"):
            agents.setdefault((node.group, node.parent), []).append(node.name)
        processes = {agent: frozenset(names) for agent, names in agents.items()}
        takes = learning.of_sites if plan.edges_aggregate else learning.messages
        for client, name in enumerate(plan.clients):
            node = nodes[name]
            agent = node.group, node.parent
            server = str(node.parent) if plan.edges_aggregate else self._deployment.cloud
            way = self._way(learning, takes, name, server, processes[agent])
            learner = learning.learners[node.group]
            slots = self._slots_of(learner, plan, name, agent)
            yield name, LearningDevice(self._time, way, slots, learner, learning, client, self._deployment.seed)

    def _slots_of(
        self, learner: Learner, plan: FederatedPlan, device: str, agent: tuple[str, str | None]
    ) -> LearnerSlots:
        """An emulated machine does one thing after another; of others as many learn at a time as their agent lets."""
        if isinstance(learner.step, TrainingCost):
            return self._slots.setdefault((device,), LearnerSlots(1))
        how = plan.how
        return self._slots.setdefault((*agent, how.learners, how.fit.runtime), LearnerSlots(how.learners.at_once))

    def _way(self, learning: Learning, takes: Messages, node: str, server: str, process: frozenset[str]) -> MessageWay:
        """process: the nodes of the one that fetches, whose files go by turns together: not within a site."""
        deployment = self._deployment
        up = [self._lanes[link] for link in links_between(deployment, node, server)]
        is_cloud = server == deployment.cloud
        turns = {way: self._table.of(self._turns(process, way)) if is_cloud else None for way in WAYS}
        lanes = [each for each, _ in up], [each for _, each in reversed(up)]
        files = FilesWay(self._time, *lanes, turns, asks_first=node in self._ask_first)
        served = self._servers.setdefault(server, FileServer(self._time))
        chance = Chance(deployment.seed, learning.workload, "cloud" if is_cloud else "edge")
        return MessageWay(files, served, takes, chance)
