"""What the documentation shows: topologies that validate, commands that parse, files that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgebench import cli, tasks
from edgebench.tasks import occupancy
from edgebench.tasks.icu import physionet2012, published
from edgebench.tasks.icu.features import feature_names
from edgebench.topology import check, load, refuse_unenforceable, resolve, topology_file
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
CODE = re.compile(r"`([^`\n]+)`")
OURS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"runs", "build", "dist"}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Fenced blocks: what stands behind the fence, and the text."""
    for match in FENCE.finditer(page.read_text()):
        yield match[1].strip(), match[2]


SHOWN = {"yaml topology": "local", "yaml topology of a lab": "lab"}
"""How a topology is marked -> the executor that it is for."""


def topologies() -> list[object]:
    return [
        pytest.param(text, SHOWN[kind], id=f"{page.stem}-{number}")
        for page in PAGES
        for number, (kind, text) in enumerate(blocks(page))
        if kind in SHOWN
    ]


def commands(page: Path) -> list[list[str]]:
    """Shown command lines of ours, as `edgebench` would see them."""
    found = []
    for _, text in blocks(page):
        for line in text.splitlines():
            words = shlex.split(line) if line.startswith(("edgebench ", "scripts/run ")) else []
            if words:
                found.append(["run", *words[1:]] if words[0] == "scripts/run" else words[1:])
    return found


def all_commands() -> list[object]:
    return [pytest.param(words, id=" ".join(words)) for page in PAGES for words in commands(page)]


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("text", "executor"), topologies())
def test_a_topology_that_is_shown_can_be_run(text: str, executor: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(text)
    topology = load(file, [])
    check(topology, file, tasks=tasks.names())
    refuse_unenforceable(topology, file, executor=executor)
    assert resolve(topology, run_id="shown", executor=executor).workloads


def test_the_readme_shows_a_topology_and_commands() -> None:
    readme = ROOT / "README.md"
    assert any(kind == "yaml topology" for kind, _ in blocks(readme))
    assert any(words[0] == "run" for words in commands(readme))


@pytest.mark.parametrize("words", all_commands())
def test_a_command_that_is_shown_parses(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    args = cli._parser().parse_args(words)
    file = getattr(args, "file", None)
    if file is not None:
        monkeypatch.chdir(ROOT)
        file = topology_file(file)
        topology = load(file, args.set)
        check(topology, file, tasks=tasks.names())
        executor = "simulate" if words[0] == "simulate" else getattr(args, "executor", "containers")
        if words[0] != "place":
            refuse_unenforceable(topology, file, executor=executor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_file_names_of_a_page_lead_somewhere(page: Path) -> None:
    for name in re.findall(r"^scripts/\w+", page.read_text(), re.MULTILINE):
        assert (ROOT / name).exists(), f"{page.name} runs {name}"
    text = FENCE.sub("", page.read_text())
    for target, anchor in LINK.findall(text):
        if "://" in target:
            continue
        to = page.parent / target if target else page
        assert to.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in headings(to), f"{page.name} links to {target}#{anchor}"
    for code in CODE.findall(text):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", code) and code.split("/")[0] in OURS:
            assert (ROOT / code).exists(), f"{page.name} names {code}"


def test_every_reason_for_rejecting_or_dropping_is_explained() -> None:
    page = (ROOT / "docs" / "wire.md").read_text()
    sources = [
        path for name in ("edgebench", "cloud", "edge_node", "device_agent") for path in (ROOT / name).rglob("*.py")
    ]
    calls = r"RejectedError|NothingSensedError|DroppedOnce|\.reject|\.drop|\.dropped"
    given = re.compile(rf"(?:(?:{calls})\([^()\n]*|refused = )\"([a-z-]+)\"")
    reasons = {reason for path in sources for reason in given.findall(path.read_text())}
    assert {"too-large", "unknown-origin", "queue-full", "store-full", "not-connected", "no-reading"} <= reasons
    assert sorted(reason for reason in reasons if f"`{reason}`" not in page) == []


def test_the_pages_of_tasks_of_numbers_name_what_sensors_call_their_features() -> None:
    pages = ROOT / "docs" / "tasks"
    wards, named = (pages / "intensive-care.md").read_text(), published.feature_names()
    for names in (("Heart Rate", "Glascow coma scale total->15", "mask->Heart Rate"), ("HR", "log(1 + BUN)", "HR gap")):
        assert [name for name in names if f"`{name}`" not in wards or name not in named] == []
        named = feature_names(physionet2012.CHANNELS, ())
    room = (pages / "occupancy.md").read_text()
    assert [name for name in occupancy.COLUMNS if f"`{name}`" not in room] == []
