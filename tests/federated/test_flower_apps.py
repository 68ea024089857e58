"""Flower apps that know nothing of edgebench."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.server.history import History
from flwr.serverapp.strategy import Strategy

from edgebench.errors import EdgebenchError
from edgebench.federated.content import Config, Head, Metrics, Parcel, unpack
from edgebench.federated.flower.apps import ClientRunner, client_app, load_app, run_server_app, server_app
from edgebench.federated.flower.clients import EngineClient
from edgebench.federated.flower.engine_job import EngineJob
from edgebench.federated.flower.events import MetricsSeen, RoundSeen
from edgebench.federated.flower.grid import LocalGrid, identity
from edgebench.federated.flower.observed import ObservedGrid
from tests.federated.flower_nodes import failures

PROJECT = """
[project]
name = "tiny"
version = "1.0"

[tool.flwr.app]
publisher = "us"

[tool.flwr.app.components]
serverapp = "{name}_server:app"
clientapp = "{name}_client:app"

[tool.flwr.app.config]
rounds = 2
deep.step = 0.5
"""

SERVER = """
import random

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
import numpy as np

app = ServerApp()
seen = {}

@app.main()
def main(grid, context):
    seen["context"] = context
    strategy = FedAvg(fraction_train=0.5)
    result = strategy.start(grid, ArrayRecord([np.zeros(2)]), num_rounds=context.run_config["rounds"])
    seen["model"] = result.arrays["0"].numpy()
    seen["evaluated"] = dict(result.evaluate_metrics_clientapp)
    asked = [Message(RecordDict(), node, "query.count") for node in grid.get_node_ids()]
    seen["counts"] = [dict(reply.content["config"]) for reply in grid.send_and_receive(asked)]
    seen["drawn"] = random.random()
"""

CLIENT = """
import random

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
import numpy as np

calls = []

def counting(message, context, call_next):
    calls.append((message.metadata.message_type, context.node_config["partition-id"]))
    return call_next(message, context)

app = ClientApp(mods=[counting])

@app.train()
def train(message, context):
    state = context.state.setdefault("state", ConfigRecord({"calls": 0}))
    state["calls"] += 1
    step = context.run_config["deep.step"] * (context.node_config["partition-id"] + 1) + random.random()
    array = message.content["arrays"]["0"].numpy() + step
    metrics = MetricRecord({"num-examples": 1, "drawn": float(np.random.random())})
    return Message(RecordDict({"arrays": ArrayRecord([array]), "metrics": metrics}), reply_to=message)

@app.evaluate()
def evaluate(message, context):
    return Message(RecordDict({"m": MetricRecord({"num-examples": 1, "x": 1.0})}), reply_to=message)

@app.query("count")
def count(message, context):
    state = context.state.get("state", ConfigRecord({"calls": 0}))
    told = ConfigRecord({"calls": state["calls"], "of": context.node_config["num-partitions"]})
    return Message(RecordDict({"config": told}), reply_to=message)
"""


def write_app(folder: Path, name: str, *, server: str = SERVER, client: str = CLIENT, project: str = PROJECT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(project.format(name=name))
    (folder / f"{name}_server.py").write_text(server)
    (folder / f"{name}_client.py").write_text(client)
    return folder


def run(
    folder: Path,
    clients: int,
    *,
    seed: int = 5,
    overrides: Mapping[str, Any] | None = None,
    deadline_s: float = 60,
    state_dir: Path | None = None,
    metrics: list[MetricsSeen] | None = None,
) -> list[RoundSeen]:
    app = load_app(folder).configured(overrides or {})
    runners = [
        ClientRunner(client_app(app), run_id=9, node_id=node, clients=clients, run_config=app.run_config, seed=seed)
        for node in range(1, clients + 1)
    ]
    rounds: list[RoundSeen] = []
    grid = ObservedGrid(
        LocalGrid([runner.reply for runner in runners], run_id=9),
        seed=seed,
        deadline_s=deadline_s,
        on_round=rounds.append,
        on_metrics=(lambda _seen: None) if metrics is None else metrics.append,
    )
    run_server_app(app, grid, state_dir=state_dir)
    return rounds


def seen_by(name: str) -> dict[str, Any]:
    import sys

    found: dict[str, Any] = sys.modules[f"{name}_server"].__dict__["seen"]
    return found


def test_an_app_runs_unmodified_with_its_settings_its_mods_and_all_its_kinds_of_messages(tmp_path: Path) -> None:
    rounds = run(write_app(tmp_path, "whole"), 4, overrides={"deep.step": 1.0})
    seen = seen_by("whole")
    assert seen["context"].run_config == {"rounds": 2, "deep.step": 1.0}
    assert seen["context"].run_id == 9
    assert [(one.kind, one.round, len(one.outcomes), failures(one)) for one in rounds] == [
        ("train", 1, 2, 0),
        ("evaluate", 1, 4, 0),
        ("train", 2, 2, 0),
        ("evaluate", 2, 4, 0),
        ("query.count", 1, 4, 0),
    ]
    assert sum(each["calls"] for each in seen["counts"]) == 4
    assert {each["of"] for each in seen["counts"]} == {4}
    assert [dict(metrics) for metrics in seen["evaluated"].values()] == [{"x": 1.0}] * 2


def test_chance_of_server_and_clients_comes_from_the_seed(tmp_path: Path) -> None:
    folder = write_app(tmp_path, "chance")

    def outcome(seed: int) -> tuple[bytes, float, list[list[int]]]:
        rounds = run(folder, 4, seed=seed)
        seen = seen_by("chance")
        return seen["model"].tobytes(), seen["drawn"], [[each.node for each in one.outcomes] for one in rounds]

    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)


def test_a_clients_chance_does_not_depend_on_who_was_called_before() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        drawn = float(np.random.rand())  # noqa: NPY002  (what an app may well do)
        return Message(RecordDict({"m": MetricRecord({"drawn": drawn})}), reply_to=message)

    def drawn(runner: ClientRunner, group: str) -> Any:
        reply = unpack(b"".join(runner.answer(Parcel(Head(message_id="1", kind="train", group=group), {}))))
        metrics = reply.content["m"]
        assert isinstance(metrics, Metrics)
        return metrics.items["drawn"]

    def runners() -> list[ClientRunner]:
        return [ClientRunner(app, run_id=1, node_id=node, clients=2, run_config={}, seed=3) for node in (1, 2)]

    first, second = runners()
    forward = [drawn(first, "1"), drawn(second, "1"), drawn(first, "2")]
    first, second = runners()
    second_1 = drawn(second, "1")
    assert [drawn(first, "1"), second_1, drawn(first, "2")] == forward
    assert len(set(forward)) == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('no\\ndata')", "RuntimeError: no data"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("return 5", "the ClientApp returned int, not a Message"),
        ("return Message(RecordDict({'a': UNFIT}), reply_to=message)", "cannot travel"),
    ],
)
def test_what_an_app_does_wrong_is_an_error_in_its_reply(tmp_path: Path, body: str, reason: str) -> None:
    unfit = ArrayRecord({"w": Array("f", (1,), "raw", b"x")})
    scope: dict[str, Any] = {"app": ClientApp(), "Message": Message, "RecordDict": RecordDict, "UNFIT": unfit}
    exec(f"@app.train()\ndef train(message, context):\n    {body}\n", scope)
    runner = ClientRunner(scope["app"], run_id=1, node_id=1, clients=1, run_config={}, seed=1)
    reply = runner.reply(Parcel(Head(message_id="m", kind="train"), {}))
    assert reply.head.reply_to == "m"
    assert reply.head.error is not None
    assert reason in reply.head.error
    assert "\n" not in reply.head.error


def test_a_request_that_no_flower_app_could_get_is_answered_with_an_error() -> None:
    runner = ClientRunner(ClientApp(), run_id=1, node_id=1, clients=1, run_config={}, seed=1)
    for request in (
        Parcel(Head(message_id="m", kind="nonsense"), {}),
        Parcel(Head(message_id="m", kind="train"), {"c": Config({"x": None})}),
        Parcel(Head(message_id="m", kind="train"), {}),
    ):
        assert runner.reply(request).head.error is not None


PUSHING = """
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()
seen = {}

@app.main()
def main(grid, context):
    nodes = list(grid.get_node_ids())
    ids = list(grid.push_messages([Message(RecordDict(), node, "query.count") for node in nodes]))
    replies = []
    for message_id in ids[:-1]:
        replies += grid.pull_messages([message_id])
    seen["told"] = [reply.content["config"]["of"] for reply in replies]
    seen["matched"] = [reply.metadata.reply_to_message_id for reply in replies] == ids[:-1]
"""


def test_rounds_of_an_app_that_pushes_and_pulls_are_told_too_and_replayed(tmp_path: Path) -> None:
    folder = write_app(tmp_path / "app", "pushing", server=PUSHING)
    (once,) = run(folder, 3, state_dir=tmp_path / "state")
    # The last one's reply is no failure: it had come, and nobody looked for it.
    assert [(one.error, one.unread) for one in once.outcomes] == [(None, False), (None, False), (None, True)]
    assert once.outcomes[-1].stamps.arrived_ns is not None
    assert not once.replayed
    assert seen_by("pushing") == {"told": [3, 3], "matched": True}
    seen_by("pushing").clear()
    (again,) = run(folder, 3, state_dir=tmp_path / "state")
    assert again.replayed
    assert seen_by("pushing") == {"told": [3, 3], "matched": True}


def test_a_server_app_that_is_started_again_is_served_what_it_was_told(tmp_path: Path) -> None:
    import sys

    folder = write_app(tmp_path / "app", "again")
    run(folder, 4, state_dir=tmp_path / "state")
    before = seen_by("again")["model"]
    calls = sys.modules["again_client"].__dict__["calls"]
    n_calls = len(calls)
    rounds = run(folder, 4, state_dir=tmp_path / "state")
    assert all(one.replayed for one in rounds)
    assert len(calls) == n_calls
    assert seen_by("again")["model"].tobytes() == before.tobytes()


def test_an_app_that_waits_for_more_clients_than_there_are_is_ended(tmp_path: Path) -> None:
    server = SERVER.replace("strategy.start(", "waiting(").replace("app = ServerApp()", WAITING + "\napp = ServerApp()")
    with pytest.raises(EdgebenchError, match="more clients than there are: 1"):
        run(write_app(tmp_path, "waiting", server=server), 1, deadline_s=0.2)


WAITING = """
def waiting(grid, *arguments, **settings):
    while len(list(grid.get_node_ids())) < 2:
        pass
"""

OLD_SERVER = """
from flwr.server import ServerApp, ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg

app = ServerApp(server_fn=lambda context: ServerAppComponents(strategy=FedAvg(), config=ServerConfig(2)))
"""

OLD_CLIENT = """
import numpy as np
from flwr.client import ClientApp, NumPyClient

class Client(NumPyClient):
    def get_parameters(self, config):
        return [np.zeros(3)]
    def fit(self, parameters, config):
        return [parameter + 1 for parameter in parameters], 1, {}
    def evaluate(self, parameters, config):
        return 0.5, 1, {}

app = ClientApp(client_fn=lambda context: Client().to_client())
"""


def test_an_app_with_flowers_deprecated_strategies_runs_too(tmp_path: Path) -> None:
    folder = write_app(tmp_path, "old", server=OLD_SERVER, client=OLD_CLIENT)
    rounds = run(folder, 3)
    assert [(one.kind, one.round, [outcome.node for outcome in one.outcomes], failures(one)) for one in rounds[1:]] == [
        ("train", 1, [1, 2, 3], 0),
        ("evaluate", 1, [1, 2, 3], 0),
        ("train", 2, [1, 2, 3], 0),
        ("evaluate", 2, [1, 2, 3], 0),
    ]


INITIAL = "FedAvg(initial_parameters=ndarrays_to_parameters([np.zeros(3)]))"


@pytest.mark.parametrize("strategy", ["FedAvg()", INITIAL])
def test_a_round_timeout_of_a_deprecated_app_is_refused_where_it_is_longer_than_a_round(
    tmp_path: Path, strategy: str
) -> None:
    """With first parameters of its own its first messages are those to all clients, each in a thread."""
    imports = "import numpy as np\nfrom flwr.common import ndarrays_to_parameters\n"
    server = imports + OLD_SERVER.replace("FedAvg()", strategy).replace("(2)", "(2, round_timeout=600)")
    name = f"old_patient_{len(strategy)}"
    with pytest.raises(EdgebenchError, match=r"the app waits 600 s .*: 60 s \(set deadline_s: 600 in the topology"):
        run(write_app(tmp_path, name, server=server, client=OLD_CLIENT), 3)


@pytest.mark.parametrize("goes_on", [True, False])
def test_an_app_whose_timeout_is_refused_may_ask_again_with_a_shorter_one(tmp_path: Path, goes_on: bool) -> None:
    start = 'strategy.start(grid, ArrayRecord([np.zeros(2)]), num_rounds=context.run_config["rounds"]'
    again = f"    result = {start})" if goes_on else "    raise SystemExit(1)"
    tried = f"try:\n        result = {start}, timeout=600)\n    except Exception:\n    {again}"
    server = SERVER.replace(f"result = {start})", tried)
    assert server != SERVER
    folder = write_app(tmp_path, f"patient_{goes_on}".lower(), server=server)
    if goes_on:
        assert [one.round for one in run(folder, 2) if one.kind == "train"] == [1, 2]
    else:
        with pytest.raises(EdgebenchError, match="the app waits 600 s"):
            run(folder, 2)


FAILING_CLIENT = OLD_CLIENT.replace("return [parameter +", "raise ValueError('no data')\n        return [parameter +")


def test_a_deprecated_app_whose_clients_all_fail_has_no_round_that_gave_anything(tmp_path: Path) -> None:
    rounds = run(write_app(tmp_path, "old_failing", server=OLD_SERVER, client=FAILING_CLIENT), 3)
    trained = [one for one in rounds if one.kind == "train"]
    assert [(failures(one), one.skipped) for one in trained] == [(3, "none of 3 replies is good")] * 2


def test_a_client_that_raises_is_told_with_the_place_in_its_own_file(tmp_path: Path) -> None:
    client = CLIENT.replace("def train(message, context):", "def train(message, context):\n    {}['column']")
    app = load_app(write_app(tmp_path, "raising", client=client))
    runner = ClientRunner(client_app(app), run_id=1, node_id=1, clients=1, run_config=app.run_config, seed=1)
    line = client.splitlines().index("    {}['column']") + 1
    said = f"KeyError: 'column' ({tmp_path / 'raising_client.py'}, line {line})"
    assert runner.reply(Parcel(Head(message_id="m", kind="train"), {})).head.error == said


@pytest.mark.parametrize("status", ["", "0"])
def test_a_server_app_may_end_by_leaving_its_process(tmp_path: Path, status: str) -> None:
    name = f"leaving{status}"
    server = SERVER + f"    import sys\n    sys.exit({status})\n"
    assert [one.kind for one in run(write_app(tmp_path, name, server=server), 2)][-1] == "query.count"


def test_a_server_app_that_gives_up_says_with_which_status(tmp_path: Path) -> None:
    server = SERVER + "    import sys\n    sys.exit('no data')\n"
    with pytest.raises(EdgebenchError, match=r"the app's server gave up by sys\.exit\('no data'\)"):
        run(write_app(tmp_path, "giving_up", server=server), 2)


MEASURING = """
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
import numpy as np

app = ServerApp()
seen = {}

class Own(FedAvg):
    def aggregate_evaluate(self, server_round, replies):
        made = super().aggregate_evaluate(server_round, replies)
        return MetricRecord({**made, "worst": float("nan"), "all": [1.0, 2.0]})

def evaluate(server_round, arrays):
    return MetricRecord({"total": 10.0 + server_round}) if server_round != 1 else None

@app.main()
def main(grid, context):
    result = Own().start(grid, ArrayRecord([np.zeros(2)]), 2, evaluate_fn=evaluate)
    seen["train"] = [record["drawn"] for record in result.train_metrics_clientapp.values()]
"""


def test_what_an_apps_own_strategy_and_server_measure_is_told_by_round(tmp_path: Path) -> None:
    told: list[MetricsSeen] = []
    run(write_app(tmp_path, "measuring", server=MEASURING), 3, metrics=told)
    first, second = seen_by("measuring")["train"]
    assert [(one.kind, one.round, one.metrics) for one in told] == [
        ("server", 0, {"total": 10.0}),
        ("train", 1, {"drawn": first}),
        ("evaluate", 1, {"x": 1.0, "worst": None}),
        ("train", 2, {"drawn": second}),
        ("evaluate", 2, {"x": 1.0, "worst": None}),
        ("server", 2, {"total": 12.0}),
    ]


def test_metrics_of_an_app_that_has_ended_are_nobodys(tmp_path: Path) -> None:
    before = Strategy.start, History.add_loss_distributed
    run(write_app(tmp_path, "ended", server=MEASURING), 2, metrics=[])
    assert (Strategy.start, History.add_loss_distributed) == before


def test_what_a_deprecated_strategy_measures_is_told_by_round(tmp_path: Path) -> None:
    told: list[MetricsSeen] = []
    server = OLD_SERVER.replace("FedAvg()", "FedAvg(fit_metrics_aggregation_fn=lambda all: {'n': len(all)})")
    run(write_app(tmp_path, "old_measuring", server=server, client=OLD_CLIENT), 3, metrics=told)
    assert [(one.kind, one.round, one.metrics) for one in told] == [
        ("train", 1, {"n": 3.0}),
        ("evaluate", 1, {"loss": 0.5}),
        ("train", 2, {"n": 3.0}),
        ("evaluate", 2, {"loss": 0.5}),
    ]


HALF_CLIENT = CLIENT.replace(
    "def evaluate(message, context):",
    """def evaluate(message, context):
    if context.node_config["partition-id"] % 2:
        raise ValueError("bad data")""",
)


def test_evaluations_that_fail_are_failures_of_their_own_rounds(tmp_path: Path) -> None:
    rounds = run(write_app(tmp_path, "half", client=HALF_CLIENT), 4)
    assert [(one.kind, failures(one)) for one in rounds if one.kind != "query.count"] == [
        ("train", 0),
        ("evaluate", 2),
        ("train", 0),
        ("evaluate", 2),
    ]


@pytest.mark.parametrize(
    ("project", "reason"),
    [
        (None, "no Flower app: there is no pyproject.toml"),
        ("[project", "pyproject.toml: "),
        pytest.param("x = " + "[" * 5000, "pyproject.toml: ", id="deep"),
        pytest.param("x = " + "9" * 5000, "pyproject.toml: ", id="long"),
        ("[project]\nname = 'x'", "no table [tool.flwr.app], which makes a Flower app of it"),
        ("[tool.flwr.app]\npublisher = 'x'", "no table [tool.flwr.app.components]"),
        ("[tool.flwr.app.components]\nserverapp = 'a:b'", 'has no clientapp (write clientapp = "module:app")'),
        (
            "[tool.flwr.app.components]\nserverapp = 'ab'\nclientapp = 'a:b'",
            "serverapp is 'ab', not a reference \"module:attribute\"",
        ),
        (
            "[tool.flwr.app.components]\nserverapp = 'pack.server:b'\nclientapp = 'a:b'",
            "serverapp is 'pack.server:b', but there is no ",
        ),
        (
            "[tool.flwr.app.components]\nserverapp = 'a:b'\nclientapp = 'a:b'\n[tool.flwr.app.config]\nx.y = [1]",
            "setting 'x.y' is neither a number, a text, nor true or false",
        ),
    ],
)
def test_what_a_folder_lacks_to_be_an_app_is_named(tmp_path: Path, project: str | None, reason: str) -> None:
    (tmp_path / "pack").mkdir()
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(project)
    with pytest.raises(EdgebenchError) as caught:
        load_app(tmp_path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_override_of_a_setting_that_is_not_there_is_refused(tmp_path: Path) -> None:
    app = load_app(write_app(tmp_path, "settings"))
    with pytest.raises(EdgebenchError, match=r"no setting 'round'.*did you mean 'rounds'"):
        app.configured({"round": 3})


def test_a_client_finds_its_own_settings_beside_its_part_of_the_data(tmp_path: Path) -> None:
    app = load_app(write_app(tmp_path, "nodes"))
    runner = ClientRunner(
        client_app(app), run_id=1, node_id=2, clients=3, run_config={}, seed=1, node_config={"data-path": "/data"}
    )
    assert runner.context.node_config == {"data-path": "/data", "partition-id": 1, "num-partitions": 3}


def test_settings_are_taken_nested_or_dotted_and_any_number_for_a_number(tmp_path: Path) -> None:
    config = "params.subsample = 1\nparams.eta = 0.1\nname = 'x'\n"
    parts = "[tool.flwr.app.components]\nserverapp = 'a:b'\nclientapp = 'a:b'\n[tool.flwr.app.config]\n"
    (tmp_path / "pyproject.toml").write_text(parts + config)
    app = load_app(tmp_path)
    found = app.configured({"params": {"subsample": 0.8}, "params.eta": 1}).run_config
    assert found == {"params.subsample": 0.8, "params.eta": 1, "name": "x"}
    for overrides, reason in (
        ({"params": {"etta": 1}}, "no setting 'params.etta'.*did you mean 'params.eta'"),
        ({"params": {"eta": True}}, "'params.eta' is True, where the app has 0.1"),
        ({"params": {"eta": 1}, "params.eta": 2}, "'params.eta' stands twice"),
        ({"params": {"eta": [1]}}, "'params.eta' is neither a number, a text, nor true or false"),
        ({"params": {"eta": None}}, "'params.eta' is neither a number, a text, nor true or false"),
        ({"params": 3}, "no setting 'params'"),
    ):
        with pytest.raises(EdgebenchError, match=reason):
            app.configured(overrides)


def test_an_app_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    for name, server, reason in (
        ("absent", "import no_such_module", "No module named 'no_such_module'"),
        ("other", "app = 3", "of type int, not ServerApp"),
        ("nothing", "", "has no attribute 'app'"),
    ):
        with pytest.raises(EdgebenchError) as caught:
            run(write_app(tmp_path / name, name, server=server), 1)
        assert reason in str(caught.value)
    first, second = (write_app(tmp_path / which, "same") for which in ("one", "two"))
    run(first, 2)
    with pytest.raises(EdgebenchError, match="another module has this name"):
        run(second, 2)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}['column']", "KeyError: 'column'"),
        ("sys.exit(3)", "it ends its process as it is imported: SystemExit: 3"),
    ],
)
def test_what_an_app_does_as_it_is_imported_is_told_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    name = f"unready_{len(line)}"
    broken = f"import sys\n{line}\n"
    app = load_app(write_app(tmp_path, name, server=broken, client=broken))
    for half, imported in (("server", server_app), ("client", client_app)):
        with pytest.raises(EdgebenchError) as caught:
            imported(app)
        place = f"({tmp_path / f'{name}_{half}.py'}, line 2)"
        assert str(caught.value) == f"{tmp_path}: {name}_{half}:app: {said} {place}"


def test_a_server_app_may_end_its_process_as_it_is_imported(tmp_path: Path) -> None:
    assert run(write_app(tmp_path, "ended_early", server="import sys\nsys.exit(0)\n"), 1) == []


def asked_there(job: EngineJob, node: int) -> Message:
    """What a client of an engine answers when it is to learn."""
    with identity(1, 0):
        message = Message(RecordDict(), 5, "train")
    place = {"partition-id": node - 1}
    context = Context(run_id=1, node_id=5, node_config=place, state=RecordDict(), run_config={})  # type: ignore[arg-type]
    return EngineClient(job)(message, context)


def test_a_client_of_an_engine_that_cannot_be_imported_says_why_in_its_reply(tmp_path: Path) -> None:
    app = load_app(write_app(tmp_path, "unready_there", client="{}['column']\n"))
    reply = asked_there(EngineJob(clients=1, seed=1, deadline_s=9, app=app), 1)
    place = f"({tmp_path / 'unready_there_client.py'}, line 1)"
    assert reply.error.reason == f"{tmp_path}: unready_there_client:app: KeyError: 'column' {place}"


WRITING = """
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    Path("mine.txt").write_text(str(context.node_config["partition-id"]))
    return Message(RecordDict(), reply_to=message)
"""


def test_clients_of_an_engine_do_not_write_over_each_other_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # which is undone at the end
    app = load_app(write_app(tmp_path / "app", "writing", client=WRITING))
    job = EngineJob(clients=2, seed=1, deadline_s=9, app=app, files_dir=str(tmp_path / "files"))
    assert not any(asked_there(job, node).has_error() for node in (1, 2, 1))
    written = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("mine.txt")}
    assert written == {"files/client-0/mine.txt": "0", "files/client-1/mine.txt": "1"}
