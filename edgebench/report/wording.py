"""Figures as a reader wants them: rounded to what can be told apart, in units that fit, the same width in a column."""

from __future__ import annotations

from edgebench.results.chunks import FORWARDING, HEAD_HOPS, HOPS
from edgebench.results.figures import FaultFigures, Result

NONE = "–"
_METRICS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "top1": "top-1",
    "top5": "top-5",
    "rank1": "rank-1",
    "map": "mAP",
    "auc": "AUC",
    "word_accuracy": "1 − WER",
    "wer": "WER",
    "cer": "CER",
    "fp": "FP",
    "fn": "FN",
}


def ms(value: float | None, places: int = 1) -> str:
    """Format ms with a fixed number of decimals."""
    return NONE if value is None else f"{value:,.{places}f}"


def count(value: int | None) -> str:
    """Format a count with thousands apart."""
    return NONE if value is None else f"{value:,}"


def number(value: float | None, places: int) -> str:
    """Format a number with a fixed number of decimals."""
    return NONE if value is None else f"{value:,.{places}f}"


def size(value: int | None) -> str:
    """Format bytes in decimal units: 1 kB is 1,000 bytes."""
    if value is None:
        return NONE
    if value < 1_000:
        return f"{value} B"
    scaled = float(value)
    for unit in ("kB", "MB", "GB"):
        scaled /= 1_000
        if scaled < 999.5 or unit == "GB":
            return f"{scaled:,.1f} {unit}" if scaled < 99.95 else f"{scaled:,.0f} {unit}"
    raise AssertionError("unreachable")


def quality(value: float | None, interval: tuple[float, float] | None = None) -> str:
    """Format a metric, with its interval where there is one."""
    if value is None:
        return NONE
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def metric_name(metric: str) -> str:
    """Write a metric as the literature does."""
    return _METRICS.get(metric, metric)


def hop_name(hop: str) -> str:
    """A hop in words."""
    return hop.replace("_", " ")


def shown_hops(result: Result) -> list[str]:
    """The hops of a run; those by the cloud only where an edge passed something on, those of a chain's first stage only
    where there is one."""
    means = [
        {hop: getattr(each.hops_ms, hop).mean for hop in FORWARDING}
        for each in result.workloads.values()
        if each.hops_ms
    ]
    shown = [hop for hop in HOPS if hop not in FORWARDING or any(mean[hop] != 0 for mean in means)]
    with_head = [each.chain for each in result.workloads.values() if each.hops_ms and each.hops_ms.head_infer]
    if with_head:
        on_devices = all(chain is not None and chain.head_tier == "device" for chain in with_head)
        place = shown.index("uplink") + (0 if on_devices else 1)
        shown[place:place] = HEAD_HOPS
    return shown


def fault_name(fault: FaultFigures) -> str:
    """A fault in words: what happened to what."""
    before = {"broker": "broker of ", "site": "site ", "machine": "machine "}.get(fault.target, "")
    return f"{before}{fault.name}: {fault.kind}"


def process_name(name: str, nodes: list[str]) -> str:
    """A process is called after its first node."""
    return f"{name} and {len(nodes) - 1} more" if len(nodes) > 1 else name
