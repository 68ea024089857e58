"""What messages took in a run besides their links, from its records: of those that found these idle, and nobody busy
where they arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgebench.clock import NS_PER_MS
from edgebench.core.links import Pipe
from edgebench.fabric import topics
from edgebench.results.chunks import ABSENT
from edgebench.simulation.calibration_samples import ENOUGH, Apart, Bools, Samples, add, processes, runs
from edgebench.simulation.chains import HandedOn
from edgebench.simulation.service_times import Cost, Ints, between, compress_of
from edgebench.simulation.stations import fifo_by_group
from edgebench.simulation.wire_sizes import answer_bytes, forward_bytes, output_bytes, publish_bytes
from edgebench.topology.deployment import Deployment, LinkPlan, NodePlan, WorkloadPlan

_HANDED_ON_NS = (200_000, 20_000)
"""So soon after a process was done with something what it takes next may have waited for that. Where hardly anything
came later, the shorter time."""
_NEARLY_ALL = 0.95
"""Of messages: so many take no longer than those that are said to have been there."""


class _Crossing(NamedTuple):
    """What crossed a kind of links in one direction [message]: when it was sent, its bytes on the link, whether it was
    calm and apart as of `Samples`, what became of it where it arrived, and whether that passed it on as it came."""

    cost: Cost
    links: list[LinkPlan]
    sent_ns: Ints
    size_bytes: Ints
    calm: Bools
    apart: Bools
    heard: _Taken
    passed_on: Bools


class _Taken(NamedTuple):
    """What processes took in, one after another [something]: from when until when, and the number of its process."""

    begun_ns: Ints
    done_ns: Ints
    process: Ints


class _Before(NamedTuple):
    """What the process of something took in before it [something]: how long ago it was done with all of that, ns, below
    0 where it was not; when it had begun with the last of it, and whether that was of the same kind."""

    idle_ns: Ints
    begun_ns: Ints
    is_alike: Bools


class MessageCosts:
    """Of one run."""

    def __init__(self, deployment: Deployment, handed_on: Mapping[str, HandedOn]) -> None:
        """handed_on: by the name of each chain."""
        self._deployment = deployment
        self._handed_on = handed_on
        self._nodes = list(deployment.nodes.values())
        self._numbers = {name: number for number, name in enumerate(deployment.nodes)}
        self._process = processes(self._nodes)
        self._costs: dict[Cost, list[Ints]] = {}
        self._on_the_way = Apart[Cost]()

    def of(self, samples: Mapping[str, Samples]) -> tuple[dict[Cost, list[Ints]], set[Cost]]:
        """What messages take besides what the law of their links says, handing them on, and handing decisions over
        within a device; and what of that is told by samples that were not apart."""
        for name, those in samples.items():
            self._take_forwarding(self._deployment.workloads[name], those)
        groups = [
            (
                direction,
                [
                    crossing
                    for name, those in samples.items()
                    for crossing in self._crossings(self._deployment.workloads[name], those, direction, far)
                ],
            )
            for direction in ("up", "down")
            for far in (False, True)
        ]
        own = [those.select(those["size_bytes"] == 0) for those in samples.values()]
        crossed = [crossing for _, crossings in groups for crossing in crossings]
        within = [_Taken(of["arrived_ns"], of["arrived_ns"], self._process[of["node"]]) for of in own]
        sensed = [_Taken(of["captured_ns"], of["sent_ns"], self._process[of["node"]]) for of in samples.values()]
        taken = [*(crossing.heard for crossing in crossed), *within, *sensed]
        kinds = [2 * number + crossing.passed_on for number, crossing in enumerate(crossed)]
        kinds += [np.full(len(each.begun_ns), ABSENT) for each in (*within, *sensed)]
        before = _before(taken, kinds)
        for direction, crossings in groups:
            self._take_crossings(crossings, direction, before[: len(crossings)])
            before = before[len(crossings) :]
        profiles = np.array([node.profile for node in self._nodes])
        for of, each in zip(own, before[: len(own)], strict=True):
            mine, took = profiles[of["node"]], of["arrived_ns"] - of["finished_ns"]
            for profile in np.unique(mine).tolist():
                add(self._costs, Cost("hear", profile), took[_free(each.idle_ns, of.calm & (mine == profile))])
        return self._costs, self._on_the_way.told(self._costs)

    def _take_forwarding(self, plan: WorkloadPlan, samples: Samples) -> None:
        passed = samples.select(samples.calm & (samples["forward_in_ns"] != ABSENT))
        task, compress = plan.task, compress_of(plan.compress)
        for profile, those in _by(self._profiles(passed, lambda _, edge: edge.profile), passed):
            add(self._costs, Cost("hand-back", profile, task), those["return_out_ns"] - those["return_in_ns"])
            if not plan.goes_on:
                took = those["forward_out_ns"] - those["forward_in_ns"]
                add(self._costs, Cost("pass-on", profile, task, compress), took)

    def _profiles(self, samples: Samples, of: Callable[[NodePlan, NodePlan], str]) -> NDArray[np.str_]:
        """What is said of the device of each sample and its edge [sample]."""
        nodes = self._deployment.nodes
        found = ["" if node.tier != "device" else of(node, nodes[str(node.parent)]) for node in self._nodes]
        return np.array(found)[samples["node"]]

    def _crossings(self, plan: WorkloadPlan, samples: Samples, direction: str, far: bool) -> list[_Crossing]:
        """far: between edges and the cloud. Devices that move are left out, since no record says where they were."""
        moving = np.array([bool(node.elsewhere) for node in self._nodes])
        forwarded = samples["forward_in_ns"] != ABSENT
        travels = (forwarded if far else samples["size_bytes"] > 0) & ~moving[samples["node"]]
        task, compress = plan.task, compress_of(plan.compress)
        found = []
        handed_on = self._handed_on.get(plan.name) if far else None
        travelled, cloud = samples.select(travels), self._deployment.nodes[self._deployment.cloud]
        near_ends = self._profiles(travelled, lambda device, edge: between(device.profile, edge.profile))
        far_ends = self._profiles(travelled, lambda _, edge: between(edge.profile, cloud.profile))
        for profile, those in _by(far_ends if far else near_ends, travelled):
            by_edge = those["forward_in_ns"] == ABSENT
            if direction == "up":
                step = "backhaul-up" if far else "site-up"
                key = compress if handed_on is None else handed_on.how
                begin = those["forward_out_ns"] if far else those["sent_ns"]
                taken = np.where(by_edge, those["received_ns"], those["forward_in_ns"])
                passed = np.where(by_edge, those["ready_ns"], those["forward_out_ns"])
                if plan.goes_on:  # which is after a first model
                    passed = taken if plan.cascade is not None else those["head_ready_ns"]
                end, busy = (those["received_ns"], those["ready_ns"]) if far else (taken, passed)
            else:
                step, key = ("backhaul-down" if far else "site-down"), ""
                begin = those["replied"] if far else np.where(by_edge, those["replied"], those["return_out_ns"])
                end = those["return_in_ns"] if far else those["arrived_ns"]
                busy = those["return_out_ns"] if far else end
            payload = those["size_bytes"] if direction == "up" else those["reply_bytes"]
            if direction == "up" and handed_on is not None:
                payload = np.full(len(those), output_bytes(handed_on.size_bytes))
            links, size = self._on_links(plan, those, payload, direction, far)
            hearer = np.array([self._numbers[link.parent if direction == "up" else link.child] for link in links])
            heard = _Taken(end, busy, self._process[hearer])
            passed_on = ~by_edge & (not plan.goes_on and not far)
            cost = Cost(step, profile, task, key)
            found.append(_Crossing(cost, links, begin, size, those.calm, those.apart, heard, passed_on))
        return found

    def _on_links(
        self, plan: WorkloadPlan, samples: Samples, payload: Ints, direction: str, far: bool
    ) -> tuple[list[LinkPlan], Ints]:
        """The link of each of some samples, and its bytes there."""
        run_id, links = self._deployment.run_id, self._deployment.links
        by_node: dict[int, tuple[LinkPlan, int]] = {}
        most = np.zeros(len(self._nodes), np.int64)
        np.maximum.at(most, samples["node"], payload)
        for number in np.unique(samples["node"]).tolist():
            device = self._nodes[number]
            assert device.parent is not None
            edge = self._deployment.nodes[device.parent]
            link = links[f"{edge.name} -> {edge.parent}" if far else f"{device.name} -> {edge.name}"]
            if direction == "up":
                topic = (topics.forward if far else topics.sample)(run_id, edge.name if far else device.name, plan.name)
                envelope = forward_bytes(device.name) if far else 0
            else:
                topic = (topics.answer if far else topics.decision)(
                    run_id, edge.name if far else device.name, plan.name
                )
                envelope = answer_bytes(device.name) if far else 0
            largest = int(most[number]) + envelope
            by_node[number] = link, envelope + publish_bytes(topic, largest, plan.qos)
        added = np.array([by_node[number][1] for number in samples["node"].tolist()], np.int64)
        return [by_node[number][0] for number in samples["node"].tolist()], payload + added

    def _take_crossings(self, crossings: list[_Crossing], direction: str, before: list[_Before]) -> None:
        """before: of each crossing."""
        links = [link for crossing in crossings for link in crossing.links]
        if not links:
            return
        pipes = {pipe: number for number, pipe in enumerate(dict.fromkeys(link.pipe for link in links))}
        pipe = np.array([pipes[link.pipe] for link in links])
        rates = [link.up_mbit_s if direction == "up" else link.down_mbit_s for link in links]
        ns_per_byte = np.array([Pipe(rate).ns_per_byte for rate in rates])
        latency = np.array([round(link.latency_ms * NS_PER_MS) for link in links])
        # What its jitter is of the variance of a link's latency.
        jitter = np.array(
            [(link.jitter_ms * NS_PER_MS) ** 2 / (3 if link.jitter == "uniform" else 1) for link in links]
        )
        sent = np.concatenate([crossing.sent_ns for crossing in crossings])
        size = np.concatenate([crossing.size_bytes for crossing in crossings])
        service = np.rint(size * ns_per_byte).astype(np.int64)
        order = np.argsort(sent, kind="stable")
        left = np.empty_like(sent)
        left[order] = fifo_by_group(sent[order], service[order], pipe[order], len(pipes))
        ends = np.cumsum([len(crossing.links) for crossing in crossings])
        for crossing, then, which in zip(crossings, before, np.split(np.arange(len(sent)), ends[:-1]), strict=True):
            there = left[which] + latency[which]
            besides = crossing.heard.begun_ns - there
            alone = crossing.calm & (left[which] - service[which] == sent[which])
            for each in np.unique(jitter[which]).tolist():
                like = alone & (jitter[which] == each)
                those = _free(then.idle_ns, like & crossing.apart)
                if those.sum() < ENOUGH:
                    those = _free(then.idle_ns, like)
                took = _without_jitter(besides[those], each)  # which moves each by what the others are
                self._on_the_way.add(crossing.cost, took, np.full(len(took), crossing.apart[those].all()))
            undelayed = besides[_free(then.idle_ns, alone)]
            if direction == "up" and len(undelayed):
                longest = int(np.quantile(undelayed, _NEARLY_ALL, method="inverted_cdf"))
                self._take_intake(crossing, then, there + longest, rated=service[which] > 0)

    def _take_intake(self, crossing: _Crossing, before: _Before, there_ns: Ints, *, rated: Bools) -> None:
        """For how long a message keeps its process busy: until that takes in the next one, where it was there already.
        there_ns: when each was, surely; rated: over a link with a rate, which may be all that a crowd waits for."""
        waited = crossing.calm & before.is_alike & (there_ns < before.begun_ns) & ~rated
        busy_ns = crossing.heard.begun_ns - before.begun_ns
        profile = self._nodes[crossing.heard.process[0]].profile
        for step, those in (("intake", ~crossing.passed_on), ("relay", crossing.passed_on)):
            found = busy_ns[waited & those]
            if len(found) >= ENOUGH:
                add(self._costs, crossing.cost._replace(step=step, profile=profile), found)


def _by(profiles: NDArray[np.str_], samples: Samples) -> Iterator[tuple[str, Samples]]:
    """Samples by their profiles [sample]."""
    for profile in np.unique(profiles).tolist():
        yield profile, samples.select(profiles == profile)


def _before(taken: Sequence[_Taken], kinds: Sequence[Ints]) -> list[_Before]:
    """Of each of some lists of what processes took."""
    begun, done, process = (np.concatenate(column) for column in zip(*taken, strict=True))
    kind = np.concatenate(kinds)
    idle, last = np.full(len(begun), np.iinfo(np.int64).max), np.full(len(begun), ABSENT)
    is_alike = np.zeros(len(begun), bool)
    for mine in runs(process, np.lexsort((begun, process))):
        idle[mine[1:]] = begun[mine[1:]] - np.maximum.accumulate(done[mine])[:-1]
        last[mine[1:]] = begun[mine[:-1]]
        is_alike[mine[1:]] = (kind[mine[1:]] == kind[mine[:-1]]) & (kind[mine[1:]] != ABSENT)
    ends = np.cumsum([len(each.begun_ns) for each in taken])[:-1]
    return [_Before(*of) for of in zip(*(np.split(each, ends) for each in (idle, last, is_alike)), strict=True)]


def _free(idle_ns: Ints, among: Bools) -> Bools:
    """Of some, those that found their process with nothing to do, as far as that can be told [something]."""
    found = among
    for handed_on_ns in _HANDED_ON_NS:
        found = among & (idle_ns > handed_on_ns)
        if found.sum() >= ENOUGH:
            break
    return found


def _without_jitter(besides: Ints, jitter_variance: float) -> Ints:
    """What messages take besides the latency of their link and its jitter, of this variance, ns².

    The two cannot be told apart by message. Their means add up, and so do their variances: what remains keeps its mean
    and its form, and is drawn together by as much as the jitter spreads it.
    """
    if not jitter_variance or not len(besides):
        return besides
    mean, variance = besides.mean(), besides.var()
    left = max(0.0, variance - jitter_variance)
    return np.rint(mean + (besides - mean) * np.sqrt(left / variance if variance else 0.0)).astype(np.int64)
