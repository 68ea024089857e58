"""What things took in a run: its service times, message costs and sizes, from its records, without what waited.

A run's own stations are gone through once more with what arrived at them, which tells who had to wait there; a cost is
taken from those samples alone that had not. So it does not depend on how loaded the run was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgebench.clock import NS_PER_MS
from edgebench.core.tallies import Tally
from edgebench.errors import EdgebenchError
from edgebench.results.chunks import ABSENT
from edgebench.results.disturbance import disturbance_of
from edgebench.results.rundir import RESULT, StoredRun, load_run, read_result
from edgebench.simulation.calibration_samples import ENOUGH, Apart, K, Samples, add, processes, runs, samples_of
from edgebench.simulation.chains import HandedOn, cuts_in, handed_on_in, head_of, tail_of, whole_of
from edgebench.simulation.contention import contended_nodes
from edgebench.simulation.learning_times import learning_in
from edgebench.simulation.message_costs import MessageCosts
from edgebench.simulation.moving import greeting_ns
from edgebench.simulation.service_times import (
    FORWARDED,
    Cascading,
    Cost,
    Cuts,
    Ints,
    Model,
    PassedOn,
    ServiceTimes,
    between,
    cascading_of,
    compress_of,
    model_of,
    profiles_in,
)
from edgebench.topology.deployment import Deployment, NodePlan, WorkloadPlan
from edgebench.topology.wording import listed, things

_SOON_NS = NS_PER_MS
"""What is ready so soon after a batch was done may have waited for its answers."""
_NONE = [np.zeros(0, np.int64)]
_ON_THE_WAY = "not-connected", "store-full"
"""Why an edge drops what it would pass on."""


def service_times_of(run_dir: Path) -> ServiceTimes:
    """What things took in a run.

    Raises EdgebenchError where it is none, where it does not tell, and where it decided nothing undisturbed.
    """
    run = load_run(run_dir)
    _refuse_what_does_not_tell(run_dir, run.deployment)
    if run.deployment.federated:
        return _learning_times(run, run_dir)
    samples = {name: of for name, of in samples_of(run).items() if of.calm.any()}
    if not samples:
        raise EdgebenchError(f"{run_dir}: nothing to calibrate with, no decision in it was left undisturbed")
    found = _Found(run.deployment)
    for name in filter(lambda name: run.deployment.workloads[name].is_chain, samples):
        found.take_chain(name, run, samples[name])
    for name, those in samples.items():
        found.take_deciders(run.deployment.workloads[name], those)
        found.take_sizes(run.deployment.workloads[name], those)
    found.take_agents(samples)
    found.take_messages(samples)
    found.take_moves(run)
    return found.times(doubts_of(run), run_dir)


def doubts_of(run: StoredRun) -> tuple[str, ...]:
    """Why what a run says that things take should not be trusted, in lines; nothing where it is valid and tells all.

    Raises EdgebenchError where its result is of another version.
    """
    told = f"{run.deployment.run_id}, which says what things take,"
    if not (run.path / RESULT).is_file():
        mend = f"edgebench report {run.path} writes it"
        return (f"{told} has no {RESULT}, so that nothing tells whether it is valid ({mend})",)
    verdict = read_result(run.path).verdict
    invalid = () if verdict.valid else (f"{told} is not valid: {'; '.join(verdict.reasons)}",)
    lost = ((name, _passed_on_and_lost(run, name)) for name, of in run.deployment.workloads.items() if of.cascade)
    less = (
        f"{name} passed on {things(n, 'sample')} that nobody decided: its cascade's share is more"
        for name, n in lost
        if n
    )
    return (*invalid, *(f"{told} is not whole: {each}" for each in less))


def _passed_on_and_lost(run: StoredRun, workload: str) -> int:
    """How many samples that its edges had passed on, or were about to, got lost there or in the cloud."""
    found = 0
    for name, node in run.deployment.nodes.items():
        tally = run.observations.tallies.get(name, {}).get(workload, Tally())
        if node.tier == "cloud":
            undecided = (number for reason, number in tally.dropped.items() if reason != "answer-gone")
            found += sum(undecided) + sum(tally.rejected.values())
        elif node.tier == "edge":
            found += sum(tally.dropped.get(reason, 0) for reason in _ON_THE_WAY)
    return found


def what_does_not_tell(deployment: Deployment) -> list[str]:
    """Of what a run had, that for which it does not tell what things take: what a message takes besides its link is
    told by a run in which the link was what was asked for, and carried nothing but samples and decisions. One with
    federated learning tells what that takes, of devices that stay where they are."""
    learns, plans = bool(deployment.federated), deployment.workloads.values()
    there = {
        "faults": bool(deployment.faults),
        "links that lose packets or follow a trace": any(link.varies for link in deployment.links.values()),
        "roll-outs": not learns and any(plan.rollout for plan in plans),
        "workloads that are placed online": any(plan.online for plan in plans),
        "chains that begin on devices": any(plan.head_on_device for plan in plans),
        "federated learning of devices that move": learns and bool(deployment.moves),
    }
    return [what for what, is_there in there.items() if is_there]


def _learning_times(run: StoredRun, run_dir: Path) -> ServiceTimes:
    """What learning took in a run: of its samples it tells nothing, since files and learners were in their way."""
    found = learning_in(run)
    if not found.costs:
        why = "its devices learned nothing together in rounds across links"
        raise EdgebenchError(f"{run_dir}: nothing to calibrate with, {why}")
    return ServiceTimes(
        costs=found.costs,
        aggregate=found.aggregate,
        sources=(run.deployment.run_id,),
        folders=(str(run_dir.resolve()),),
        doubts=doubts_of(run),
    )


def _refuse_what_does_not_tell(run_dir: Path, deployment: Deployment) -> None:
    """Raises EdgebenchError."""
    found = what_does_not_tell(deployment)
    if found:
        raise EdgebenchError(f"{run_dir}: a run with {listed(found)} does not tell what things take (run it without)")


class _Stage(NamedTuple):
    """What decides at some nodes, of a profile. how: what comes there is told from other messages; turn: what is done
    for each sample of a batch in turn."""

    model: Callable[[str], Model]
    how: str
    turn: Callable[[str], Cost]


class _Found:
    """What was found so far."""

    def __init__(self, deployment: Deployment) -> None:
        self._paused: dict[tuple[Model, int], list[Ints]] = {}
        self._at_once: dict[tuple[Model, int], list[Ints]] = {}
        self._deployment = deployment
        self._nodes = list(deployment.nodes.values())
        self._process = processes(self._nodes)
        self._edge = _edges_of_staying(self._nodes)
        self._costs: dict[Cost, list[Ints]] = {}
        self._by_apart = Apart[Cost]()
        self._crowded: set[Cost] = set()
        self._unsure: dict[Cascading, PassedOn] = {}
        self._handed_on: dict[str, HandedOn] = {}
        self._cuts: dict[Model, list[Cuts]] = {}

    def times(self, doubts: tuple[str, ...], run_dir: Path) -> ServiceTimes:
        """All of it, with what `doubts_of` says of a run in that directory."""
        self._crowded |= self._by_apart.told(self._costs)
        infer: dict[Model, dict[int, Ints]] = {}
        at_once: dict[Model, dict[int, Ints]] = {}
        for model, size in self._paused | self._at_once:
            parts = [np.concatenate(of.get((model, size), _NONE)) for of in (self._paused, self._at_once)]
            if min(map(len, parts)) < ENOUGH:
                infer.setdefault(model, {})[size] = np.sort(np.maximum(np.concatenate(parts), 1))
            else:
                for into, part in zip((infer, at_once), parts, strict=True):
                    into.setdefault(model, {})[size] = np.sort(np.maximum(part, 1))
        # What waited for a core there is told by the profile; connecting does not.
        contended = {self._deployment.nodes[node].profile for node in contended_nodes(self._deployment)}
        told = {
            cost: each
            for cost, each in _sorted(self._costs).items()
            if cost.step == "connect" or not contended & profiles_in(cost)
        }
        return ServiceTimes(
            infer=infer,
            at_once=at_once,
            costs=told,
            crowded=frozenset(self._crowded),
            unsure=self._unsure,
            cuts=self._cuts,
            sources=(self._deployment.run_id,),
            folders=(str(run_dir.resolve()),),
            doubts=doubts,
        )

    def take_chain(self, name: str, run: StoredRun, samples: Samples) -> None:
        """What a run wrote down of a chain. Raises EdgebenchError where it did not, or not of all its samples."""
        plan = self._deployment.workloads[name]
        chained = next((each for each in run.observations.chains if each.workload == name), None)
        if chained is None or chained.values is None:
            raise EdgebenchError(f"{run.path}: does not say what goes on between the stages of {name} (run it again)")
        self._handed_on[name] = handed_on_in(plan, chained, chained.values)
        if chained.cut is not None:
            self._cuts.setdefault(whole_of(plan), []).append(cuts_in(chained))
        told = Counter(self._edge[samples["node"]].tolist())
        for number, node in enumerate(self._nodes):
            done = _first_stages(run.observations.tallies.get(node.name, {}).get(name, Tally()))
            if node.tier == "edge" and done != told[number]:
                # Batches of which nobody told would pass for waiting, or for handing on.
                counted = f"{node.name} did the first stage of {name} for {things(done, 'sample')}"
                mend = "run it without devices that move, and with room in the cloud for all that comes"
                raise EdgebenchError(f"{run.path}: {counted}, and {told[number]:,} records say when ({mend})")

    def take_sizes(self, plan: WorkloadPlan, samples: Samples) -> None:
        """Payloads of what travelled, and what a cascade passed on."""
        travelled = samples.select(samples["size_bytes"] > 0)
        if not len(travelled):
            return
        add(self._costs, Cost("size", task=plan.task, how=compress_of(plan.compress)), travelled["size_bytes"])
        passed_on = travelled["forward_in_ns"] != ABSENT
        add(self._costs, Cost("reply", task=plan.task), travelled["reply_bytes"][~passed_on])
        handed_on = self._handed_on.get(plan.name)
        how = FORWARDED if handed_on is None else handed_on.how
        add(self._costs, Cost("reply", task=plan.task, how=how), travelled["reply_bytes"][passed_on])
        if handed_on is not None:
            size = np.array([handed_on.size_bytes], np.int64)
            add(self._costs, Cost("output", task=plan.task, how=handed_on.how), size)
        if plan.cascade is not None:
            cascade = cascading_of(plan, self._deployment.data)
            passed = PassedOn(int((samples["forward_in_ns"] != ABSENT).sum()), len(samples))
            self._unsure[cascade] = self._unsure.get(cascade, PassedOn()).and_of(passed)

    def take_deciders(self, plan: WorkloadPlan, samples: Samples) -> None:
        """What deciding takes, by each server: of an edge, of the cloud, and of an agent, whose devices share one."""
        task, handed_on = plan.task, self._handed_on.get(plan.name)
        if handed_on is None:
            whole = _Stage(
                lambda profile: model_of(profile, task, plan.model),
                compress_of(plan.compress),
                lambda profile: Cost("answer", profile, task),
            )
            self._take_servers(plan, samples, whole)
            return
        cut, how, _ = handed_on
        head = _Stage(
            lambda profile: head_of(profile, plan, cut),
            compress_of(plan.compress),
            lambda profile: Cost("hand-on", profile, task, how),
        )
        tail = _Stage(lambda profile: tail_of(profile, plan, cut), how, lambda profile: Cost("answer", profile, task))
        self._take_servers(plan, self._of_head(samples), head)
        self._take_servers(plan, samples, tail)

    def _of_head(self, samples: Samples) -> Samples:
        """What edges did as the first stage, as if it had been decided there."""
        staying = samples.select(self._edge[samples["node"]] != ABSENT)
        named = {
            "received_ns": "forward_in_ns",
            "ready_ns": "head_ready_ns",
            "started_ns": "head_started_ns",
            "finished_ns": "head_finished_ns",
            "replied": "forward_out_ns",
            "batch": "head_batch",
        }
        columns = {name: staying[column] for name, column in named.items()}
        columns |= {"decider": self._edge[staying["node"]], "node": staying["node"]}
        return Samples(columns, staying.calm, staying.apart)

    def _take_servers(self, plan: WorkloadPlan, samples: Samples, stage: _Stage) -> None:
        server = self._process[samples["decider"]]
        order = np.lexsort((samples["replied"], samples["started_ns"], server))
        for which in runs(server, order):
            mine = samples.select(which)
            node = self._nodes[mine["decider"][0]]
            model = stage.model(node.profile)
            if node.tier == "cloud" and plan.cascade is not None:
                model = model_of(node.profile, plan.task, plan.cascade)
            begins = np.diff(mine["started_ns"], prepend=ABSENT) != 0
            first = np.flatnonzero(begins | (node.tier == "device"))
            passed_on = self._passed_on_by(node, samples) if plan.cascade is not None else np.zeros(0, np.int64)
            self._take_batches(plan, model, stage, mine, first, passed_on)

    def _passed_on_by(self, node: NodePlan, samples: Samples) -> Ints:
        """When a node passed samples on, in order."""
        at_node = np.array([each.parent == node.name for each in self._nodes])
        mine = at_node[samples["node"]] & (samples["forward_in_ns"] != ABSENT)
        return np.sort(samples["forward_out_ns"][mine])

    def _take_batches(
        self, plan: WorkloadPlan, model: Model, stage: _Stage, mine: Samples, first: Ints, passed_on_ns: Ints
    ) -> None:
        """What a server does. mine: in the order of batches, the first of each being `first`. passed_on_ns: when it
        passed on what it was unsure of, whose records tell nothing else of it [ascending]."""
        node = self._nodes[mine["decider"][0]]
        sizes, told = mine["batch"][first], np.diff(first, append=len(mine))
        # Where some samples of a batch have no record, nobody knows when the last was ready, or who was answered when.
        whole = (told == sizes) | (plan.cascade is not None)
        calm, after_whole = mine.calm[first] & whole, np.concatenate([[True], whole[:-1]])
        started, finished = mine["started_ns"][first], mine["finished_ns"][first]
        ready = np.minimum.reduceat(mine["ready_ns"], first)
        before = np.concatenate([[ABSENT], np.maximum.accumulate(finished)[:-1]])
        last_passed = np.concatenate([[ABSENT], passed_on_ns])[np.searchsorted(passed_on_ns, started)]
        at_once = not plan.batch.max_wait_ms or node.tier == "device"
        full = sizes == (1 if node.tier == "device" else plan.batch.max_batch)
        begun = at_once | full
        last_ready = ready if at_once else np.maximum.reduceat(mine["ready_ns"], first)
        follows = last_ready <= before
        for size in np.unique(sizes[calm]).tolist():
            those = calm & (sizes == size)
            add(self._paused, (model, size), (finished - started)[those & ~follows])
            add(self._at_once, (model, size), (finished - started)[those & follows])
        idle = calm & after_whole & begun & (last_ready > np.maximum(before, last_passed) + _SOON_NS)
        task = plan.task
        woken = Cost("begin", node.profile, task) if node.tier == "device" else Cost("wake", node.profile)
        apart = np.logical_and.reduceat(mine.apart, first)
        self._by_apart.add(woken, (started - last_ready)[idle], apart[idle])
        if node.tier == "device":
            return
        add(
            self._costs,
            Cost("decode", node.profile, task, stage.how),
            (mine["ready_ns"] - mine["received_ns"])[mine.calm],
        )
        # What comes while a batch waits to be full makes it wait, and so does a batch that was all passed on.
        busy = calm & after_whole & begun & follows & (last_passed < before)
        of_before = np.concatenate([[1], sizes[:-1]])
        gaps = ((started - before) / of_before)[busy].astype(np.int64)
        if len(gaps) < ENOUGH:
            turns = np.diff(mine["replied"], prepend=0)
            turns[first] = mine["replied"][first] - finished
            calm_turns, of_several = mine.calm & np.repeat(whole, told), np.repeat(sizes > 1, told)
            of_several[first] = False
            gaps = turns[calm_turns & of_several] if (calm_turns & of_several).any() else turns[calm_turns]
        add(self._costs, stage.turn(node.profile), gaps)

    def take_agents(self, samples: Mapping[str, Samples]) -> None:
        """What sensing takes on devices, which an agent hosts by group and site."""
        plans = self._deployment.workloads
        names = list(samples)
        joined = {
            name: np.concatenate([samples[each][name] for each in names])
            for name in ("node", "scheduled_ns", "captured_ns", "sent_ns", "size_bytes")
        }
        workload = np.repeat(np.arange(len(names)), [len(samples[each]) for each in names])
        calm = np.concatenate([samples[each].calm for each in names])
        apart = np.concatenate([samples[each].apart for each in names])
        agent = self._process[joined["node"]]
        for mine in runs(agent, np.lexsort((joined["scheduled_ns"], agent))):
            of = {name: column[mine] for name, column in joined.items()}
            profile = self._nodes[of["node"][0]].profile
            before = np.concatenate([[ABSENT], np.maximum.accumulate(of["sent_ns"])[:-1]])
            idle = calm[mine] & (of["scheduled_ns"] > before)
            late = of["captured_ns"] - of["scheduled_ns"]
            self._by_apart.add(Cost("timer", profile), late[idle], apart[mine][idle])
            packed = calm[mine] & (of["size_bytes"] > 0)
            for place, name in enumerate(names):
                those = packed & (workload[mine] == place)
                cost = Cost("capture", profile, plans[name].task, compress_of(plans[name].compress))
                add(self._costs, cost, (of["sent_ns"] - of["captured_ns"])[those])

    def take_messages(self, samples: Mapping[str, Samples]) -> None:
        """What they take besides their links."""
        costs, crowded = MessageCosts(self._deployment, self._handed_on).of(samples)
        for cost, values in costs.items():
            self._costs.setdefault(cost, []).extend(values)
        self._crowded |= crowded

    def take_moves(self, run: StoredRun) -> None:
        """What connecting at other sites took besides the links: where nothing disturbed it, if that was ever so. Where
        others share a link that has a rate, it may have waited for them, and is not told."""
        nodes, disturbance = self._deployment.nodes, disturbance_of(run.observations)
        links = {move: self._deployment.links[f"{move.node} -> {move.to}"] for move in run.observations.moves}
        moves = [
            (move, move.up_ns)
            for move, link in links.items()
            if move.up_ns is not None and (link.pipe == link.name or link.up_mbit_s is link.down_mbit_s is None)
        ]
        calm = [
            (move, up_ns)
            for move, up_ns in moves
            if disturbance is None or not disturbance.touches(np.array([move.left_ns]), np.array([up_ns])).any()
        ]
        for move, up_ns in calm or moves:
            took_ns = up_ns - move.left_ns - greeting_ns(links[move])
            profiles = between(nodes[move.node].profile, nodes[move.to].profile)
            add(self._costs, Cost("connect", profiles), np.array([took_ns], np.int64))


def _edges_of_staying(nodes: Sequence[NodePlan]) -> Ints:
    """The number of each node's edge [node], ABSENT where it has none, and of devices that move, since no record says
    where they were."""
    numbers = {node.name: number for number, node in enumerate(nodes)}
    return np.array([ABSENT if node.elsewhere else numbers.get(str(node.parent), ABSENT) for node in nodes])


def _first_stages(tally: Tally) -> int:
    """For how many samples an edge did the first stage of a chain: it handed on what that gave, or had to drop it."""
    return tally.forwarded + sum(tally.dropped.get(reason, 0) for reason in _ON_THE_WAY)


def _sorted(parts: Mapping[K, list[Ints]]) -> dict[K, Ints]:
    joined = {key: np.concatenate(values) for key, values in parts.items()}
    return {key: np.maximum(np.sort(values), 0).astype(np.int64) for key, values in joined.items()}
