"""Any Flower app, unmodified: its ServerApp over any grid, and its ClientApp for one client after another."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

import msgspec
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import ServerApp

from edgebench.clock import now_ns
from edgebench.errors import EdgebenchError, describe_error, print_once
from edgebench.federated.content import Bytes, ContentError, Head, Parcel, pack
from edgebench.federated.flower.app_metrics import hearing
from edgebench.federated.flower.grid import identity
from edgebench.federated.flower.journal import Journal
from edgebench.federated.flower.messages import ERROR_CODE, SERVER_NODE, to_message, to_parcel
from edgebench.federated.flower.observed import ObservedGrid
from edgebench.seeds import seed_everything
from edgebench.topology.settings import OURS, Setting, SettingError, flat
from edgebench.topology.wording import did_you_mean, one_line

_log = logging.getLogger(__name__)
_App = TypeVar("_App", ServerApp, ClientApp)
_IN_ORDER = (None, 0)
"""What `sys.exit` is given where all is well."""
_TERMINATED = 128 + signal.SIGTERM
"""The status with which a process leaves that is being ended from outside."""


class FlowerApp(msgspec.Struct, frozen=True):
    """A Flower app in a folder. server_ref, client_ref: `module:attribute`. run_config: its defaults, by dotted key.
    dependencies: as its project states them."""

    folder: str
    server_ref: str
    client_ref: str
    run_config: dict[str, Setting]
    dependencies: tuple[str, ...] = ()

    def configured(self, tables: Mapping[str, Any]) -> FlowerApp:
        """The app with other settings, as `flwr run` takes them: nested or by dotted key, any number for a number.

        Raises EdgebenchError for one that it does not have, or of another type.
        """
        try:
            overrides = flat(tables)
        except SettingError as error:
            raise EdgebenchError(f"{self.folder}: setting {error}") from error
        for key, value in overrides.items():
            if key not in self.run_config:
                raise EdgebenchError(
                    f"{self.folder}: the app has no setting '{key}' in [tool.flwr.app.config]"
                    f"{did_you_mean(key, self.run_config)}"
                )
            default = self.run_config[key]
            if type(value) is not type(default) and not (_is_number(value) and _is_number(default)):
                raise EdgebenchError(
                    f"{self.folder}: setting '{key}' is {value!r}, where the app has {default!r} "
                    f"(give a value of type {type(default).__name__})"
                )
        return msgspec.structs.replace(self, run_config={**self.run_config, **overrides})


def load_app(folder: Path) -> FlowerApp:
    """The Flower app in a folder, as its pyproject.toml describes it; none of its code runs. Raises EdgebenchError."""
    path = folder / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise EdgebenchError(f"{folder}: no Flower app: there is no pyproject.toml") from None
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of 5,000 digits, deep nesting
        raise EdgebenchError(f"{path}: {one_line(str(error))}") from None
    app = _table(path, project, "tool.flwr.app")
    components = _table(path, project, "tool.flwr.app.components")
    server_ref, client_ref = (_reference(folder, components, part) for part in ("serverapp", "clientapp"))
    return FlowerApp(
        folder=str(folder.resolve()),
        server_ref=server_ref,
        client_ref=client_ref,
        run_config=_settings(path, app.get("config", {})),
        dependencies=_dependencies(path, project),
    )


def server_app(app: FlowerApp) -> ServerApp:
    """Import the app's ServerApp. Raises EdgebenchError."""
    return _imported(app, app.server_ref, ServerApp)


def client_app(app: FlowerApp) -> ClientApp:
    """Import the app's ClientApp. Raises EdgebenchError."""
    return _imported(app, app.client_ref, ClientApp)


def run_server_app(app: FlowerApp, grid: ObservedGrid, *, state_dir: Path | None = None) -> None:
    """Run the app's ServerApp to its end. state_dir: where to keep what a restart goes on from.

    An app with Flower's deprecated strategies sums replies up as they come, and cannot be resumed: it starts anew.
    An app may end by `sys.exit()`, also while it is imported. Raises EdgebenchError where it exits with another status,
    or cannot be imported; whatever else it raises comes through.
    """
    run_id = grid.run.run_id
    with identity(run_id, SERVER_NODE):
        try:
            serve = server_app(app)
        except EdgebenchError as error:
            if isinstance(error.__cause__, SystemExit) and error.__cause__.code in _IN_ORDER:
                _log.warning("%s", error)
                return
            raise
        grid.seed_anew()  # frameworks that have just been imported were not there to be seeded
        grid.one_by_one = serve._main is None
        if state_dir is not None and not grid.one_by_one:
            grid.resume(Journal(state_dir))
        context = Context(
            run_id=run_id,
            node_id=SERVER_NODE,
            node_config={},
            state=RecordDict(),
            run_config=dict(app.run_config),
        )
        try:
            with hearing(grid.tell_metrics):
                serve(grid, context)
        except SystemExit as end:
            if end.code == _TERMINATED:
                raise
            if end.code not in _IN_ORDER and grid.refusal is None:
                raise EdgebenchError(f"{app.folder}: the app's server gave up by sys.exit({end.code!r})") from end
        except Exception:
            if grid.refusal is None:
                raise
        finally:
            grid.finish()
        if grid.refusal is not None:
            # An app that asks each client in a thread goes on as if they had failed, and may then fail of that.
            raise grid.refusal


class ClientRunner:
    """One client of an app. Its context lives as long as it does; several may share a process and a ClientApp.

    Before each message the process's generators are seeded from the run's seed, the node, and the message's group and
    kind: what a client makes of it does not depend on who else was called before.
    """

    def __init__(
        self,
        app: ClientApp,
        *,
        run_id: int,
        node_id: int,
        clients: int,
        run_config: Mapping[str, Setting],
        seed: int,
        node_config: Mapping[str, Setting] = MappingProxyType({}),
    ) -> None:
        """node_id: from 1. clients: how many there are. node_config: settings of its own; see `node_config_of`."""
        self._app = app
        self._run_id = run_id
        self._node_id = node_id
        self._seed = seed
        self.context = Context(
            run_id=run_id,
            node_id=node_id,
            node_config=node_config_of(node_id, clients, node_config),
            state=RecordDict(),
            run_config=dict(run_config),
        )

    def answer(self, request: Parcel) -> list[Bytes]:
        """The reply, packed; whatever goes wrong is an error in it."""
        reply = self.reply(request)
        return pack(reply.head, reply.content)

    def reply(self, request: Parcel) -> Parcel:
        """The reply; whatever goes wrong is an error in it."""
        started_ns = now_ns()
        head = request.head
        try:
            message = to_message(request, run_id=self._run_id, src=SERVER_NODE, dst=self._node_id)
            del request  # of a large one, Flower's message is a copy
            reply = call_client(self._app, message, self.context, seed=self._seed)
            reply.metadata.__dict__["_message_id"] = f"{head.message_id}-{self._node_id}"
            return to_parcel(reply, started_ns=started_ns, finished_ns=now_ns())
        except ContentError as error:
            return self._failed(head, started_ns, ErrorCode.UNKNOWN, str(error))

    def _failed(self, head: Head, started_ns: int, code: int, reason: str) -> Parcel:
        """A request that is no Flower message, or a reply that cannot travel."""
        return Parcel(
            Head(
                message_id=f"{head.message_id}-{self._node_id}",
                kind=head.kind,
                group=head.group,
                reply_to=head.message_id,
                error=reason,
                meta={ERROR_CODE: code, "started_ns": started_ns, "finished_ns": now_ns()},
            ),
            {},
        )


def node_config_of(node_id: int, clients: int, own: Mapping[str, Setting]) -> dict[str, Setting]:
    """What a client finds in `context.node_config`: clients share the data by their partition-id, node_id − 1."""
    return {**own, **dict(zip(OURS, (node_id - 1, clients), strict=True))}


def call_client(app: ClientApp, message: Message, context: Context, *, seed: int) -> Message:
    """Have a ClientApp answer, as the node of its context; what it raises is an error in the reply, as in Flower."""
    about = message.metadata
    seed_everything(seed, "client", context.node_id, about.group_id, about.message_type)
    with identity(about.run_id, context.node_id):
        try:
            reply = app(message, context)
            reason = None
            if not isinstance(reply, Message):
                reason = f"the ClientApp returned {type(reply).__name__}, not a Message"
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the reply is where it goes)
            print_once(error)
            reason = describe_error(error)
        if reason is not None:
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
    reply.metadata.__dict__["_reply_to_message_id"] = about.message_id
    return reply


def _table(path: Path, project: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Any = project
    for part in name.split("."):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    if not isinstance(found, Mapping) or not found:
        raise EdgebenchError(f"{path}: no table [{name}], which makes a Flower app of it")
    return found


def _reference(folder: Path, components: Mapping[str, Any], part: str) -> str:
    """`module:attribute` of one of the app's two halves."""
    path = folder / "pyproject.toml"
    reference = components.get(part)
    if reference is None:
        raise EdgebenchError(f'{path}: [tool.flwr.app.components] has no {part} (write {part} = "module:app")')
    module, colon, attribute = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    names = [*module.split("."), *attribute.split(".")]
    if not colon or not all(name.isidentifier() for name in names):
        raise EdgebenchError(f'{path}: {part} is {reference!r}, not a reference "module:attribute"')
    place = folder.joinpath(*module.split("."))
    if folder.joinpath(names[0]).is_dir() and not (place.with_suffix(".py").is_file() or place.is_dir()):
        raise EdgebenchError(f"{path}: {part} is {reference!r}, but there is no {place.with_suffix('.py')}")
    return str(reference)


def _dependencies(path: Path, project: Mapping[str, Any]) -> tuple[str, ...]:
    about = project.get("project", {})
    found = about.get("dependencies", []) if isinstance(about, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise EdgebenchError(f"{path}: [project] has no list of texts as its dependencies")
    return tuple(found)


def _settings(path: Path, config: Any) -> dict[str, Setting]:
    if not isinstance(config, Mapping):
        raise EdgebenchError(f"{path}: [tool.flwr.app.config] is no table")
    try:
        return flat(config)
    except SettingError as error:
        raise EdgebenchError(f"{path}: setting {error}") from error


def _is_number(value: Setting) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _imported(app: FlowerApp, reference: str, kind: type[_App]) -> _App:
    module_name, _, attribute = reference.partition(":")
    if sys.path[0] != app.folder:
        sys.path.insert(0, app.folder)
    try:
        found: Any = importlib.import_module(module_name)
        _check_origin(app, found)
        for name in attribute.split("."):
            found = getattr(found, name)
    except EdgebenchError:
        raise
    except SystemExit as end:
        if end.code == _TERMINATED:
            raise
        said = describe_error(end, Path(app.folder))
        raise EdgebenchError(f"{app.folder}: {reference}: it ends its process as it is imported: {said}") from end
    except Exception as error:
        # Whatever the app's own code raises as it is imported.
        said = describe_error(error, Path(app.folder))
        raise EdgebenchError(f"{app.folder}: {reference}: {said}") from error
    if not isinstance(found, kind):
        raise EdgebenchError(f"{app.folder}: {reference} is of type {type(found).__name__}, not {kind.__name__}")
    return found


def _check_origin(app: FlowerApp, module: ModuleType) -> None:
    """A process imports a name once, whatever folder comes first."""
    own = Path(app.folder, *module.__name__.split("."))
    there = Path(module.__file__ or "").resolve()
    if own.with_suffix(".py").is_file() and own.with_suffix(".py") != there:
        raise EdgebenchError(f"{own}.py: another module has this name: {there} (give yours a name of its own)")
