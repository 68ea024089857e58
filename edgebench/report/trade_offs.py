"""What the report of a scenario sets side by side: bytes against quality, joint decisions and the ways to them, moves,
and a cascade against its two extremes."""

from __future__ import annotations

from collections import Counter

from edgebench.report.view import Table
from edgebench.report.wording import NONE, count, metric_name, ms, number, quality, size
from edgebench.results.figures import Result
from edgebench.results.sample_figures import CascadeFigures, ChainFigures, CutFigures, JointFigures, WorkloadFigures
from edgebench.topology.wording import things


def compression_table(result: Result) -> Table:
    """Bytes, latency and quality of the tasks that a run decides in several ways, one of which compresses."""
    tasks = Counter(each.task for each in result.workloads.values())
    compressed = {each.task for each in result.workloads.values() if each.compress is not None}
    return Table(
        ("Workload", "Task", "Sent as", "Infer at", "Bytes a sample", "sense ms", "decode ms", "p50 ms", "Quality"),
        tuple(
            _compression(name, each)
            for name, each in sorted(result.workloads.items(), key=lambda entry: -(entry[1].sample_bytes or 0))
            if each.task in compressed and tasks[each.task] > 1
        ),
        text=4,
    )


def _compression(name: str, each: WorkloadFigures) -> tuple[str, ...]:
    hops, latency = each.hops_ms, each.latency_ms
    return (
        name,
        each.task,
        each.compress or "raw",
        each.place,
        NONE if each.sample_bytes is None else f"{each.sample_bytes:,.0f}",
        number(None if hops is None else hops.sense.mean, 2),
        number(None if hops is None else hops.decode.mean, 2),
        ms(None if latency is None else latency.p50),
        f"{metric_name(each.quality.metric)} {quality(each.quality.value, each.quality.interval)}",
    )


def joint_table(result: Result) -> Table:
    """Each joint decision as a whole."""
    times = ("p50", "p90", "p99", "mean", "Parts added up")
    columns = ("Decision", "Made of", "Frames", "Decided", "Late", *times, "Right")
    rows = []
    for name, each in result.joint.items():
        latency = each.latency_ms
        spread = (ms(None if latency is None else getattr(latency, key)) for key in ("p50", "p90", "p99", "mean"))
        counts = (count(each.frames), count(each.decided), count(each.late))
        parts = ", ".join(f"{workload} {ms(work)}" for workload, work in each.work_ms.items())
        added = f"{ms(each.parts_ms)} ({parts})" if parts else NONE
        rows.append((name, ", ".join(each.of), *counts, *spread, added, _right(each)))
    return Table(columns, tuple(rows), text=2)


def path_table(result: Result) -> Table:
    """The ways through the workloads of each joint decision, and how often each was the longest."""
    rows = [
        (name, " → ".join(path.path), ms(path.mean_ms), f"{path.critical / each.decided:.1%}" if each.decided else NONE)
        for name, each in result.joint.items()
        for path in each.paths
    ]
    return Table(("Decision", "Way", "Mean ms", "Critical"), tuple(rows), text=2)


def handover_table(result: Result) -> Table:
    """Each move of a device."""
    columns = ("Device", "From", "To", "At s", "Connected after ms", "First decision after ms", "Sent again", "Lost")
    rows = [
        (
            each.node,
            each.left,
            each.to,
            number(each.at_s, 1),
            ms(each.connect_ms),
            ms(each.first_decision_ms),
            count(each.resent),
            count(each.lost),
        )
        for each in result.handovers
    ]
    return Table(columns, tuple(rows), text=3)


def replacement_table(result: Result) -> Table:
    """Each move of a workload to the cloud, or back."""
    columns = ("Workload", "Site", "From", "To", "At s", "There ms", "Predicted ms", "Then ms", "In flight", "Lost")
    rows = [
        (
            each.workload,
            each.site,
            each.left,
            each.to,
            number(each.at_s, 1),
            ms(each.measured_ms),
            ms(each.predicted_ms),
            ms(each.after_ms),
            count(each.in_flight),
            count(each.lost),
        )
        for each in result.replacements
    ]
    return Table(columns, tuple(rows), text=4)


def cascade_table(result: Result) -> Table:
    """Quality of each cascade on held-out data beside that of either model alone, and what it forwards."""
    rows = []
    for name, each in result.workloads.items():
        if each.cascade is not None:
            metric = metric_name(each.quality.metric)
            found = each.cascade
            rows += [
                (name, "the edge's model alone", "0 %", NONE, f"{metric} {quality(found.light_quality)}", NONE, NONE),
                (
                    name,
                    f"cascade, sure from {found.threshold:.3f} on",
                    f"{found.expected_share:.1%}",
                    f"{found.share:.1%}",
                    f"{metric} {quality(found.quality)}",
                    f"{metric} {quality(each.quality.value, each.quality.interval)}",
                    f"{size(found.kept_bytes)} ({count(each.decided - found.forwarded)} samples)",
                ),
                (
                    name,
                    "the cloud's model alone",
                    "100 %",
                    NONE,
                    f"{metric} {quality(found.heavy_quality)}",
                    NONE,
                    NONE,
                ),
            ]
    columns = (
        "Workload",
        "Decided by",
        "Forwarded, held out",
        "in the stream",
        "Quality, held out",
        "in the stream",
        "Kept off the uplink",
    )
    return Table(columns, tuple(rows), text=2)


def cascade_lines(result: Result) -> list[str]:
    """What the detour by the cloud costs, in sentences."""
    return [_line(name, each.cascade) for name, each in result.workloads.items() if each.cascade is not None]


def _line(name: str, cascade: CascadeFigures) -> str:
    def p50(latency_ms: float | None) -> str:
        return "none" if latency_ms is None else f"p50 {ms(latency_ms)} ms"

    edge, cloud = cascade.edge_latency_ms, cascade.cloud_latency_ms
    return (
        f"{name}: decisions of the edge {p50(edge.p50 if edge else None)}, of the cloud "
        f"{p50(cloud.p50 if cloud else None)}{_missed(cascade)}."
    )


def chain_table(result: Result) -> Table:
    """Where each model was cut, beside the other places among which that was chosen."""
    rows = []
    for name, each in result.workloads.items():
        if each.chain is not None and each.chain.cut is not None:
            cut = each.chain.cut
            others = [other for other in each.chain.considered if other.place != cut.place]
            rows += [(name, *_place(cut), ms(each.chain.measured_ms, 2)), *((name, *_place(at), NONE) for at in others)]
    columns = (
        "Workload",
        "Cut after",
        "Place",
        "Goes on",
        "First part ms",
        "Second part ms",
        "Predicted ms",
        "Measured ms",
    )
    return Table(columns, tuple(rows), text=2)


def _place(cut: CutFigures) -> tuple[str, ...]:
    parts = (ms(cut.head_ms, 3), ms(cut.tail_ms, 3), ms(cut.predicted_ms, 2))
    return cut.layer, str(cut.place), size(cut.output_bytes), *parts


def _chain_line(chain: ChainFigures) -> str:
    cut = chain.cut
    if cut is None:
        return f"{ms(chain.measured_ms, 2)} ms from {chain.head_tier} to decision"
    chosen = f", chosen among {len(chain.considered)}" if chain.considered else ""
    took = f"{ms(chain.measured_ms, 2)} ms from {chain.head_tier} to decision"
    if cut.predicted_ms is not None:
        took += f", {ms(cut.predicted_ms, 2)} ms predicted without any wait"
    return (
        f"cut after {cut.layer} (place {cut.place} of {chain.places}{chosen}): {size(cut.output_bytes)} go on; {took}"
    )


def summary_lines(result: Result) -> list[str]:
    """What a scenario is for, a line each: joint decisions, moves, what is placed online, cascades, chains."""
    lines = []
    for name, joint in result.joint.items():
        mean = ms(None if joint.latency_ms is None else joint.latency_ms.mean)
        right = "" if joint.right is None else f", right: {_right(joint)}"
        frames = f"{count(joint.decided)} of {count(joint.frames)} frames decided{right}"
        lines.append(f"{name}: {frames}; mean {mean} ms, its parts added up {ms(joint.parts_ms)} ms")
    for move in result.handovers:
        when = f"connected after {ms(move.connect_ms)} ms, first decision after {ms(move.first_decision_ms)} ms"
        lines.append(f"{move.node} from {move.left} to {move.to} at {move.at_s:.1f} s: {when}, {count(move.lost)} lost")
    for name, each in result.workloads.items():
        if each.decided_by is not None:
            where = ", ".join(f"{count(decided)} by the {tier}" for tier, decided in each.decided_by.items())
            moves = things(sum(replaced.workload == name for replaced in result.replacements), "move")
            lines.append(f"{name}: {where}, {moves}")
        if each.cascade is not None:
            held_out = _held_out(metric_name(each.quality.metric), each.cascade)
            lines.append(f"{name}: {each.cascade.share:.1%} forwarded to the cloud. {held_out}")
        if each.chain is not None:
            lines.append(f"{name}: {_chain_line(each.chain)}")
    return lines


def _right(joint: JointFigures) -> str:
    if joint.right is None:
        return NONE
    return f"{joint.right:.1%}" + ("" if joint.judged == joint.decided else f" of {count(joint.judged)} labelled")


def _held_out(metric: str, cascade: CascadeFigures) -> str:
    three = " / ".join(quality(value) for value in (cascade.light_quality, cascade.quality, cascade.heavy_quality))
    return f"{metric} of edge / both / cloud on held-out data: {three}{_missed(cascade)}"


def _missed(cascade: CascadeFigures) -> str:
    return "" if cascade.quality >= cascade.target else f"; its target of {cascade.target:.3f} was out of reach"
