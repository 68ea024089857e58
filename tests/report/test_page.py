import base64
import io
import math
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import plotly.graph_objects as go
import pytest
from rich.console import Console

from edgebench.clock import NS_PER_MS, NS_PER_S
from edgebench.core.samples import SampleRecord
from edgebench.errors import DataError
from edgebench.fabric.records import Brokered, Death, HostUsage
from edgebench.report import charts
from edgebench.report.page import print_summary, write_report
from edgebench.results import rundir
from edgebench.results.observations import Lateness, Observations
from edgebench.results.timeline import bin_width_s
from edgebench.tasks.images import png
from edgebench.topology.deployment import Deployment
from tests.profiles import SLOW
from tests.results import factory, made_up_ward
from tests.results.factory import at_ms


def _write(path: Path, deployment: Deployment, observations: Observations, rows: list[SampleRecord]) -> Path:
    path.mkdir(exist_ok=True)
    rundir.write_deployment(path, deployment)
    rundir.write_observations(path, observations)
    rundir.write_records(path, rows)
    return path


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "icu-ward"
    _write(path, made_up_ward.deployment(), made_up_ward.observations(), made_up_ward.rows())
    write_report(path)
    return path


def _small(path: Path, observations: Observations | None = None, deployment: Deployment | None = None) -> str:
    rows = [factory.row(0, 0), factory.row(1, 500)]
    _write(path, deployment or factory.deployment(), observations or factory.observations(), rows)
    write_report(path)
    return _page(path)


def _page(run_dir: Path) -> str:
    """The report without Plotly's own code."""
    html = (run_dir / rundir.REPORT).read_text()
    return re.sub(r"<script>/\*\*\s*\* plotly\.js.*?</script>", "", html, flags=re.DOTALL)


def _figures(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, flags=re.DOTALL)
    assert found is not None
    figures: dict[str, Any] = msgspec.json.decode(found[1])
    return figures


def _coloured(value: Any) -> Any:
    if isinstance(value, str):
        return "#123456" if value.startswith("--") else value
    if isinstance(value, list):
        return [_coloured(each) for each in value]
    return {key: _coloured(each) for key, each in value.items()} if isinstance(value, dict) else value


def test_result_and_report_are_rebuilt_identically(ward: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    copy.mkdir()
    for name in (rundir.DEPLOYMENT, rundir.OBSERVATIONS, rundir.RECORDS):
        shutil.copy(ward / name, copy / name)
    write_report(copy)
    for name in (rundir.RESULT, rundir.REPORT):
        assert (copy / name).read_bytes() == (ward / name).read_bytes()


def test_the_report_needs_nothing_from_elsewhere(ward: Path) -> None:
    page = _page(ward)
    assert len(page) < 100_000
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!data:)', page)
    assert "http" not in page
    assert "@import" not in page


def test_what_a_model_draws_stands_in_the_report_with_its_caption(ward: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(ward, copy)
    (copy / rundir.MODELS).mkdir()
    digest = made_up_ward.observations().models[0].manifest.digest
    drawn = png(np.full((4, 6, 3), 90, np.uint8), "five <b> people")
    (copy / rundir.MODELS / f"{digest}.png").write_bytes(drawn)
    write_report(copy)
    page = _page(copy)
    assert f'src="data:image/png;base64,{base64.b64encode(drawn).decode()}"' in page
    assert page.count("five &lt;b&gt; people") == 2  # for those who see, and for those who do not
    (copy / rundir.MODELS / f"{digest}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no PNG file that can be read"):
        write_report(copy)


def test_disturbed_seconds_are_marked_in_every_chart_over_time(tmp_path: Path) -> None:
    first = at_ms(0) // NS_PER_S
    observed = made_up_ward.observations(
        lateness=[
            Lateness(first + n, 1, 4 * late * NS_PER_MS, 0, "bed-0", disturbed=late)
            for n in range(40)
            for late in [int(n in (5, 6, 30))]
        ],
        host_usage=[HostUsage(at_ms(1_000 * n), 0.9, 0.0, 0.6, 0.4, at_ms(1_000 * (n - 1))) for n in range(1, 41)],
    )
    _write(tmp_path, made_up_ward.deployment(), observed, made_up_ward.rows())
    result = write_report(tmp_path)
    page = _page(tmp_path)
    over_time = [
        figure["layout"]
        for figure in _figures(page).values()
        if figure["layout"]["xaxis"]["title"]["text"] == charts.OVER_TIME
    ]
    assert len(over_time) == 6  # the latency of three workloads, throughput, processor and memory
    for layout in over_time:
        bands = [shape for shape in layout["shapes"] if shape["type"] == "rect" and shape["fillcolor"] == "--bad"]
        assert [(band["x0"], band["x1"]) for band in bands] == [(5.0, 7.0), (30.0, 31.0)]
    assert "Other work disturbed 3.0 s of the run, 8% of its streams." in page
    alone = result.workloads["death-risk"].undisturbed
    assert alone is not None
    assert f"/ {alone.n:,}<" in page


def test_machines_and_their_clocks_stand_in_the_report_where_there_are_several(tmp_path: Path, ward: Path) -> None:
    assert "<h2>Machines</h2>" not in _page(ward)
    machines = factory.board("pi", host_usage=[HostUsage(at_ms(500 * n), 0.5, 0.0, 0.01) for n in range(8)])
    boards = factory.placed(factory.deployment(), bed_0="pi")
    page = _small(tmp_path, factory.observations(machines=machines), boards)
    assert "<h2>Machines</h2>" in page
    row = re.search(r'<tr><th scope="row">pi</th>(.*?)</tr>', page)
    assert row is not None
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row[1])
    assert cells == ["aarch64", "10.0.0.2", "pi", "1", "4", "4,000", "50%", "1.0%", "0.000", "0.007", "0.0 ± 0.0"]
    assert "3.00 / 3.00 ± 0.01" in page


def test_a_model_is_held_against_itself_before_it_was_exported(tmp_path: Path) -> None:
    observed = factory.observations()
    (event,) = observed.models
    manifest = msgspec.structs.replace(
        event.manifest, metrics={"auroc": 0.8123}, metrics_before_export={"auroc": 0.8345}
    )
    models = [msgspec.structs.replace(event, manifest=manifest)]
    page = _small(tmp_path, factory.observations(models=models))
    assert "Before export" in page
    assert re.search(r'>0\.812 \(generated\)</td><td data-l="Before export"[^>]*>0\.83[45]</td>', page)


def test_every_chart_is_a_figure_that_plotly_takes(ward: Path) -> None:
    page = _page(ward)
    figures = _figures(page)
    # Hops, three latencies, throughput, CPU, memory, and the quality of the workload that had two models.
    assert len(figures) == 8
    for name, figure in figures.items():
        go.Figure(_coloured(figure))
        assert f'id="{name}"' in page


def test_every_colour_of_the_charts_is_in_the_style_sheet(ward: Path) -> None:
    page = _page(ward)
    used = set(re.findall(r'"(--[a-z0-9-]+)"', page))
    assert used
    assert all(f"{name}:" in page for name in used)


def test_a_swap_is_marked_in_the_latency_of_its_workload_only(ward: Path) -> None:
    marked = [figure for figure in _figures(_page(ward)).values() if "swap to bbbbbbbb" in str(figure)]
    assert len(marked) == 1
    # The two wards swapped 90 ms apart, too close to be told apart in 40 s.
    assert [shape["x0"] for shape in marked[0]["layout"]["shapes"]] == [17.32]


def test_the_bars_of_the_hops_add_up_to_the_mean_latency(ward: Path) -> None:
    bars = _figures(_page(ward))["chart-1"]["data"]
    result = msgspec.json.decode((ward / rundir.RESULT).read_bytes())
    mean = result["workloads"]["death-risk"]["latency_ms"]["mean"]
    assert [bar["name"] for bar in bars] == ["sense", "uplink", "decode", "queue", "infer", "downlink"]
    assert sum(bar["x"][0] for bar in bars) == pytest.approx(mean, abs=1e-3)


def test_the_report_says_where_data_was_generated_and_only_there(tmp_path: Path) -> None:
    assert "generated data" in _small(tmp_path / "a")
    real = factory.observations(
        models=[],
        data_sources={"death-risk": "physionet2012 set b"},
        real_data=["death-risk"],
    )
    page = _small(tmp_path / "b", real)
    assert "generated" not in page
    assert "physionet2012 set b" in page


def test_the_reasons_stand_in_the_report_of_an_invalid_run(tmp_path: Path) -> None:
    page = _small(tmp_path, factory.observations(deaths=[Death("ward-0", -9, at_ms(1_300))]))
    assert "edge node ward-0 was killed at 1.3 s by signal 9, SIGKILL" in page
    assert "Do not rely on the figures" in page


def test_outputs_that_are_no_finite_numbers_stand_in_the_report(tmp_path: Path) -> None:
    rundir.write_deployment(tmp_path, factory.deployment())
    rundir.write_observations(tmp_path, factory.observations())
    rundir.write_records(tmp_path, [factory.row(seq, 10 * seq, output=[math.nan]) for seq in range(4)])
    assert not write_report(tmp_path).verdict.valid
    page = (tmp_path / rundir.REPORT).read_text()
    assert "death-risk: 4 of 4 decisions are not finite numbers." in page
    assert "death-risk: its quality has no value: 4 of 4 decisions are not finite numbers." in page


def test_hops_by_the_cloud_are_shown_where_an_edge_passed_something_on(tmp_path: Path, ward: Path) -> None:
    assert "backhaul up" not in _page(ward)
    rundir.write_deployment(tmp_path, factory.deployment())
    rundir.write_observations(tmp_path, factory.observations())
    stamps = {
        "forward_in_ns": at_ms(4),
        "forward_out_ns": at_ms(5),
        "return_in_ns": at_ms(67),
        "return_out_ns": at_ms(68),
    }
    rundir.write_records(tmp_path, [factory.row(0, 0, (1, 40, 2, 4, 30), **stamps)])
    write_report(tmp_path)
    bars = _figures(_page(tmp_path))["chart-1"]["data"]
    assert [bar["name"] for bar in bars][2:4] == ["edge forward", "backhaul up"]
    assert sum(bar["x"][0] for bar in bars) == pytest.approx(77)


@pytest.mark.parametrize(
    ("brokers", "told"),
    [
        ([("cloud", "mosquitto", "2.0.11"), ("ward-0", "mosquitto", "2.0.11")], "Mosquitto 2.0.11"),
        ([("cloud", "external", None), ("ward-0", "external", None)], "one of your own"),
        (
            [("cloud", "mosquitto", "2.0.11"), ("ward-0", "nats", "2.15.1"), ("ward-1", "nats", "2.15.1")],
            "Mosquitto 2.0.11 at cloud; nats-server 2.15.1 at ward-0, ward-1",
        ),
    ],
)
def test_the_report_says_which_broker_served(
    tmp_path: Path, brokers: list[tuple[str, Literal["mosquitto", "nats", "external"], str | None]], told: str
) -> None:
    observed = factory.observations(brokers=[Brokered(*each) for each in brokers])
    page = re.sub(r"<td[^>]*>", "<td>", _small(tmp_path, observed))
    assert "refused" not in page
    assert f'<th scope="row">broker</th><td>{told}</td>' in page


def test_the_report_says_whether_its_figures_are_emulated(tmp_path: Path) -> None:
    plain = factory.deployment()
    bed = msgspec.structs.replace(plain.nodes["bed-0"], profile=SLOW.name)
    emulated = msgspec.structs.replace(plain, nodes={**plain.nodes, "bed-0": bed}, profiles={SLOW.name: SLOW})
    page = _small(tmp_path / "emulated", deployment=emulated)
    assert "Every figure here was measured in a run in which nodes are emulated: what passes one of them takes" in page
    assert "Every figure here was measured." not in page
    assert "Every figure here was measured.<" in _small(tmp_path / "measured")


def test_what_was_refused_stands_in_the_report(tmp_path: Path) -> None:
    page = _small(tmp_path, factory.observations(refused={"ward-0": {"connections": 2, "publications": 1}}))
    assert "ward-0 refused 2 connections, 1 publication of somebody who may not" in page


def test_what_users_and_machines_say_cannot_become_markup(tmp_path: Path) -> None:
    nasty = "</script><script>alert(1)</script><b>&"
    plan = factory.workload(nasty)
    observed = factory.observations(
        invalidated=[nasty],
        versions={nasty: nasty},
        host={"cpu": nasty},
        data_sources={nasty: nasty},
        hosts_of={"x": [nasty]},
    )
    deployment = msgspec.structs.replace(factory.deployment(plan), name=nasty)
    _write(tmp_path, deployment, observed, [factory.row(0, 0, workload=nasty), factory.row(1, 9, workload=nasty)])
    write_report(tmp_path)
    page = _page(tmp_path)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<b>&" not in page
    assert page.count("<script") == page.count("</script>")
    _figures(page)


def test_a_run_in_which_nothing_happened_has_a_report(tmp_path: Path) -> None:
    observed = factory.observations(
        started_ns=None, ended_ns=None, swaps=[], models=[], links=[], usage={}, hosts_of={}, closed=[], host={}
    )
    _write(tmp_path, factory.deployment(), observed, [])
    result = write_report(tmp_path)
    assert not result.verdict.valid
    assert "the run ended before its streams started" in _page(tmp_path)
    assert _figures(_page(tmp_path)) == {}


def test_links_beyond_the_first_twenty_are_folded_away(tmp_path: Path) -> None:
    links = [msgspec.structs.replace(factory.observations().links[0], name=f"bed-{n} -> ward-0") for n in range(23)]
    page = _small(tmp_path, factory.observations(links=links))
    assert "<summary>3 more links</summary>" in page


def test_a_link_that_a_busy_machine_could_not_measure_undisturbed_has_a_star_that_is_explained(tmp_path: Path) -> None:
    shaken, steady = factory.observations().links
    page = _small(tmp_path, factory.observations(links=[msgspec.structs.replace(shaken, steady=False), steady]))
    assert '<th scope="row">ward-0 -&gt; cloud *</th>' in page
    assert '<th scope="row">bed-0 -&gt; ward-0</th>' in page
    assert "* The machine was too busy to measure it undisturbed" in page
    assert "too busy to measure" not in _small(tmp_path / "steady", factory.observations(links=[steady]))


def test_the_closing_table_fits_80_columns_and_ends_with_the_verdict(ward: Path) -> None:
    output = io.StringIO()
    print_summary(write_report(ward), Console(file=output, width=80, force_terminal=False))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[:3] == ["death-risk", "617", "0"]
    assert lines[-1] == "valid"


@pytest.mark.parametrize(
    ("count", "span_s", "width_s"), [(640, 40, 2), (1_000_000, 40, 0.5), (10, 40, 50), (2_000, 600, 10)]
)
def test_bins_are_round_and_hold_enough_samples(count: int, span_s: float, width_s: float) -> None:
    assert bin_width_s(count, span_s) == pytest.approx(width_s)


def test_a_run_that_was_cut_short_says_how_much_of_its_load_there_was(tmp_path: Path) -> None:
    assert "4 s of load" in _small(tmp_path / "whole")
    assert "1.5 of 4 s of load" in _small(tmp_path / "cut", factory.observations(ended_ns=at_ms(1_500)))
