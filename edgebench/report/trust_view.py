"""What a verdict rests on, in a report."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.report.view import Table
from edgebench.report.wording import NONE, count, ms, number
from edgebench.results.figures import Result
from edgebench.results.sample_figures import Adequacy, Slip, WorkloadFigures
from edgebench.topology.wording import listed, things


def verdict(result: Result) -> dict[str, str]:
    """The headline, and what it means for whoever reads on."""
    if result.verdict.valid and result.figures == "modelled":
        return {
            "headline": "Valid",
            "sentence": "A simulation in which every sample was decided: its figures are modelled, and hold as far as "
            "what it was calibrated by does.",
        }
    if result.verdict.valid:
        return {
            "headline": "Valid",
            "sentence": "The load kept its schedule, every sample was decided once, the links that could be measured "
            f"did as asked and no part died{_but_faults(result)}: the figures may be trusted."
            + (
                " Other work disturbed some of it, and changed them less than is tolerated."
                if disturbed_lines(result)
                else ""
            ),
        }
    return {
        "headline": "Invalid",
        "sentence": "Do not rely on the figures below; they are kept because they may help to find out why. "
        + ("The reason:" if len(result.verdict.reasons) == 1 else "The reasons:"),
    }


def _but_faults(result: Result) -> str:
    return ", but as faults had it" if any(fault.at_s is not None for fault in result.faults) else ""


def trust_table(result: Result) -> Table:
    """What the verdict rests on."""
    return Table(
        ("Workload", "Schedule slip", "Slipped", "p99", "p99 ≤", "Bound", "Over it", "Samples", "Needed"),
        tuple(
            (name, *_slip(each.slip_ms, each.scheduled), *_adequacy(each, each.adequacy))
            for name, each in result.workloads.items()
        ),
    )


def disturbance_table(result: Result) -> Table:
    """The headline figures of all samples, and without the disturbed seconds; no rows where there are none."""
    rows = [
        (
            name,
            f"{count(each.decided)} / {count(alone.n)}",
            f"{ms(each.latency_ms.p50)} / {ms(alone.p50)}",
            f"{ms(each.latency_ms.p99)} / {ms(alone.p99)}",
            f"{number(each.throughput_hz, 1)} / {number(alone.throughput_hz, 1)}",
        )
        for name, each in result.workloads.items()
        if (alone := each.undisturbed) is not None and each.latency_ms is not None
    ]
    return Table(("Workload", "Decided", "p50", "p99", "Decisions/s"), tuple(rows))


def disturbed_lines(result: Result) -> list[str]:
    """How much of the run other work disturbed; nothing where it disturbed none."""
    found = result.disturbance
    if found is None or not found.spans:
        return []
    return [f"other work disturbed {found.disturbed_s:.1f} s of the run, {found.share:.0%} of its streams"]


def modelled_lines(result: Result) -> list[str]:
    """What a simulation's figures rest on; nothing of a run."""
    return [f"modelled, calibrated by {listed(result.calibrated_by)}"] if result.figures == "modelled" else []


def trust_lines(result: Result) -> list[str]:
    """What else was counted that a reader should know of."""
    lines = []
    for name, each in result.workloads.items():
        for what, reasons in (("rejected", each.rejected_by_reason), ("dropped", each.dropped_by_reason)):
            if reasons:
                by_reason = ", ".join(f"{number:,} {reason}" for reason, number in reasons.items())
                lines.append(f"{name}: payloads {what}: {by_reason}.")
        if each.not_finite:
            lines.append(f"{name}: {each.not_finite:,} of {things(each.decided, 'decision')} are not finite numbers.")
        if each.decided and each.quality.undefined is not None:
            lines.append(f"{name}: its quality has no value: {each.quality.undefined}.")
        if each.quality.scored and each.quality.scored < each.quality.n:
            lines.append(
                f"{name}: its quality is of {each.quality.scored:,} decisions, an even share of {each.quality.n:,}."
            )
        lines += [f"{name}: {line}" for line in _came_and_went(each)]
    if result.rejected_elsewhere:
        by_reason = ", ".join(f"{number:,} {reason}" for reason, number in result.rejected_elsewhere.items())
        lines.append(f"Payloads for no workload of this run: {by_reason}.")
    if result.host_use is not None:
        lines.append(
            f"While samples were due the host was {result.host_use.busy:.0%} busy; all its cores were busy for "
            f"{result.host_use.full:.0%} of the time. Other guests of its hardware took {result.host_use.stolen:.1%}"
            + ("." if result.host_use.foreign is None else f", foreign processes {result.host_use.foreign:.1%}.")
        )
    lines.append(_lateness_line(result))
    return lines + [f"{line[0].upper()}{line[1:]}." for line in disturbed_lines(result)]


def _came_and_went(each: WorkloadFigures) -> Iterator[str]:
    """What came again, for somebody else, or never, and harms nothing."""
    if each.plain_json:
        yield f"{things(each.plain_json, 'plain JSON sample')} decided for senders outside this run."
    if each.repeated:
        yield f"{things(each.repeated, 'decision')} reached their device again as they were, and counted once."
    if each.missed:
        due = things(each.missed, "sample")
        yield f"{due} more were due while their device, or its live sensor, was not there, or died with it untold."
    if each.duplicated > each.duplicated_at_devices:
        again = things(each.duplicated - each.duplicated_at_devices, "sample")
        yield f"{again} reached the deciding node again and were decided once."


def _lateness_line(result: Result) -> str:
    found = result.disturbance
    if found is None:
        return "Whether other work disturbed the run is not known."
    of = "" if found.most_hiccup_of is None else f", in {found.most_hiccup_of}"
    return (
        f"Timers of the run's parts fired {found.mean_late_ms:.2f} ms late on average, {found.most_late_ms:.2f} ms in "
        f"the worst second ({found.worst_late_ms:.2f} ms in the worst part); the largest hiccup "
        f"took {found.most_hiccup_ms:.1f} ms{of}."
    )


def _slip(slip: Slip | None, scheduled: int) -> tuple[str, str]:
    if slip is None:
        return NONE, NONE
    return (
        f"{slip.p50:,.1f} / {slip.p95:,.1f} / {slip.p99:,.1f}",
        f"{slip.over:,} of {scheduled:,} by over {slip.limit:g} ms",
    )


def _adequacy(figures: WorkloadFigures, adequacy: Adequacy | None) -> tuple[str, ...]:
    if adequacy is None or figures.latency_ms is None:
        return (NONE,) * 6
    return (
        ms(figures.latency_ms.p99),
        ms(adequacy.p99_upper_ms) if adequacy.p99_upper_ms is not None else "too few",
        NONE if adequacy.bound_ms is None else f"{adequacy.bound_ms:g}",
        NONE if adequacy.bound_ms is None else count(adequacy.over),
        count(figures.decided),
        f"{count(adequacy.needed)} {'✓' if adequacy.adequate else '✗'}",
    )
