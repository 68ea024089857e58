"""`edgebench profile --machine`: measure a machine of the lab from its server, which has the models."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from edgebench.clock import now_s, sleep_s
from edgebench.decoding import UNREADABLE
from edgebench.errors import EdgebenchError
from edgebench.executors.assigning import OTHER_CODE, serves_other_code
from edgebench.executors.joined import decode_reports, encode_order, why_gone
from edgebench.executors.measured_machine import PROFILE
from edgebench.executors.orders import Failed, HandedIn, KeepPiece, MeasureMachine, Report, Said
from edgebench.experiments.profiling.kit import Wanted
from edgebench.experiments.profiling.measuring import ProfileOptions, check, kit_of, wanted_of, write
from edgebench.lab.messages import HOW_TO_WAIT, HeldError, MachineInfo
from edgebench.lab.operator import LabClient
from edgebench.lab.serving import lab
from edgebench.topology.profile_files import read_profile
from edgebench.topology.profiles import Profile
from edgebench.topology.wording import did_you_mean

_GATHERING_S = 20.0
"""How long a machine has to be heard again of a lab that was not served before."""
_LOOK_S = 0.2
_WAIT_S = 1.0
_PIECE_BYTES = 2 << 20


def profile_of_machine(machine: str, options: ProfileOptions) -> Profile:
    """Measure a machine of the lab, which serves no run meanwhile. options: its meter is that machine's.

    Raises EdgebenchError for what the user has to mend, and where the machine does not come to an end of it.
    """
    name, wanted, kit = options.name or machine, wanted_of(options), kit_of(options)
    check(options, name)
    with lab() as client:
        _check_there(client, machine)
        kit.complete(wanted, options.tell)
        run_id = f"profile-{machine}-{secrets.token_hex(4)}"
        try:
            client.hold(run_id, [machine], "a profile", tell=options.tell)
        except HeldError as error:
            raise EdgebenchError(f"--machine {str(error).removesuffix(HOW_TO_WAIT)} (wait for its end)") from error
        try:
            for file, path in kit.files(wanted):
                for piece in _pieces(path):
                    client.send(run_id, machine, encode_order(KeepPiece(file, piece)))
            client.send(run_id, machine, encode_order(MeasureMachine(tuple(_words(options, wanted, name)))))
            _await_profile(client, run_id, machine, options)
            found = client.files(run_id) / machine / PROFILE
            profile = read_profile(found)
            write(options, profile)
        finally:
            client.release(run_id)
    return profile


def _check_there(client: LabClient, name: str) -> MachineInfo:
    """Raises EdgebenchError where it is not there to be measured."""
    until_s = now_s() + _GATHERING_S
    while True:
        machines = {each.name: each for each in client.machines() if each.kind == "machine"}
        if name not in machines:
            mend = did_you_mean(name, machines) or " (edgebench lab invite says how one joins)"
            raise EdgebenchError(f"--machine {name}: no machine of the lab{mend}")
        found = machines[name]
        if found.present:
            break
        if now_s() > until_s:
            raise EdgebenchError(f"--machine {name}: is not there (see to its power and network)")
        sleep_s(_LOOK_S)
    if serves_other_code(found):
        raise EdgebenchError(f"--machine {name}: {OTHER_CODE}")
    if not found.same_code:
        raise EdgebenchError(f"--machine {name}: runs other code than this; on it: {found.mend} (then join again)")
    return found


def _pieces(path: Path) -> Iterator[bytes]:
    """Of a file; one of an empty one."""
    with path.open("rb") as file:
        piece = file.read(_PIECE_BYTES)
        yield piece
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _words(options: ProfileOptions, wanted: Wanted, name: str) -> Iterator[str]:
    """What is said to `edgebench profile` there."""
    for option, values in (
        ("--task", wanted.tasks),
        ("--size", wanted.sizes),
        ("--format", wanted.formats),
        ("--train-batch", map(str, wanted.batches)),
        ("--message-bytes", map(str, options.message_bytes)),
    ):
        for value in values:
            yield option
            yield value
    yield from ("--name", name)
    if options.quick:
        yield "--quick"
    if options.max_batch is not None:
        yield from ("--max-batch", str(options.max_batch))
    if options.meter is not None:
        yield from ("--meter", options.meter)


def _await_profile(client: LabClient, run_id: str, machine: str, options: ProfileOptions) -> None:
    """Until it has handed its profile in. Raises EdgebenchError where that will never be."""
    after = 0
    while True:
        for told in client.reports(run_id, after, _WAIT_S):
            after = told.seq
            if told.kind != "report":
                raise EdgebenchError(f"--machine {machine}: {why_gone(told.kind)}")
            try:
                reports = decode_reports(told.body)
            except UNREADABLE as error:
                raise EdgebenchError(f"--machine {machine}: tells what cannot be understood: {error}") from error
            if any(_is_over(machine, report, options) for report in reports):
                return


def _is_over(machine: str, report: Report, options: ProfileOptions) -> bool:
    match report:
        case Said(line=line):
            options.tell(line)
        case Failed(reason=reason):
            raise EdgebenchError(f"--machine {machine}: {reason}")
        case HandedIn(name=name) if name == PROFILE:
            return True
    return False
