"""What the operator asks of a lab's server: who is there, holds, orders, reports, invitations."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime

from aiohttp import web

from edgebench.clock import now_s, utc_now
from edgebench.fabric.tls import tls_name
from edgebench.lab.members import Member
from edgebench.lab.messages import (
    DEVICE_PORT,
    AbsentError,
    Clock,
    DeviceCredential,
    DeviceInvitation,
    Hold,
    Invitation,
    Invited,
    LabError,
    MachineInfo,
    Send,
)
from edgebench.lab.server import LabServer, asked, number_of, packed, waiting_s
from edgebench.lab.wheel import code_digest
from edgebench.topology.deployment import HERE

_SHORTEST_S = 10.0
_LONGEST_S = 7 * 86_400.0


class OperatorRoutes:
    """Added to a server's by `add`."""

    def __init__(self, lab: LabServer) -> None:
        self._lab = lab

    def add(self, routes: web.UrlDispatcher) -> None:
        """What it answers."""
        routes.add_get("/v1/operator/machines", self._machines)
        routes.add_get("/v1/operator/machines/{name}/clock", self._clock)
        routes.add_delete("/v1/operator/machines/{name}", self._remove)
        routes.add_get("/v1/operator/refusals", self._refusals)
        routes.add_post("/v1/operator/invitations", self._invite)
        routes.add_post("/v1/operator/devices", self._invite_device)
        routes.add_get("/v1/operator/devices/{name}/password", self._password)
        routes.add_post("/v1/operator/holds", self._hold)
        routes.add_delete("/v1/operator/holds/{run_id}", self._release)
        routes.add_get("/v1/operator/holds/{run_id}/reports", self._reports)
        routes.add_post("/v1/operator/orders", self._send)

    async def _machines(self, _request: web.Request) -> web.Response:
        return packed([self._info(member) for member in self._lab.members.all()])

    async def _clock(self, request: web.Request) -> web.Response:
        presence = self._lab.presence(self._lab.members.get(request.match_info["name"]).name)
        return packed(Clock(presence.offset, presence.exchanges_after(number_of(request, "after_ns"))))

    async def _remove(self, request: web.Request) -> web.Response:
        self._lab.remove(request.match_info["name"])
        return packed(True)

    async def _refusals(self, _request: web.Request) -> web.Response:
        return packed(dict(self._lab.doorkeeper.by_reason))

    async def _invite(self, request: web.Request) -> web.Response:
        invitation = await asked(request, Invitation)
        if not _SHORTEST_S <= invitation.for_s <= _LONGEST_S:
            raise LabError(f"a token is good for {_SHORTEST_S:.0f} s to {_LONGEST_S / 86_400:.0f} days")
        wheel = await asyncio.to_thread(self._lab.wheel_line)
        token, until = self._lab.members.invite(invitation.role, invitation.for_s)
        # On 32-bit Arm some of what is needed comes from Debian's packages only.
        home = "~/edgebench"
        install = f"python3 -m venv --system-site-packages {home} && . {home}/bin/activate && pip install {wheel}"
        return packed(Invited(install, f"edgebench join {self._lab.url} --token {token}", _told(until), str(token)))

    async def _invite_device(self, request: web.Request) -> web.Response:
        invitation = await asked(request, DeviceInvitation)
        near = self._lab.url.host
        if invitation.near != HERE:
            near = self._lab.presence(self._lab.members.get(invitation.near).name).address
        if not near:
            raise AbsentError(f"{invitation.near}: was not heard yet, so its address is not known (join it first)")
        member, issued, key = self._lab.members.add_device(invitation.name, invitation.near)
        assert member.password is not None
        return packed(
            DeviceCredential(
                member.name,
                member.password,
                near,
                DEVICE_PORT,
                tls_name(invitation.near),
                self._lab.authority.pem,
                issued.pem,
                key,
                _told(issued.until),
            )
        )

    async def _password(self, request: web.Request) -> web.Response:
        member = self._lab.members.get(request.match_info["name"])
        if member.password is None:
            raise AbsentError(f"{member.name}: is no device without Python")
        return packed(member.password)

    async def _hold(self, request: web.Request) -> web.Response:
        hold = await asked(request, Hold)
        infos = {member.name: self._info(member) for member in self._lab.members.all()}
        for name in hold.names:
            if name not in infos:
                raise AbsentError(f"{name}: no machine of the lab (there are: {', '.join(infos) or 'none'})")
            if not infos[name].present:
                raise AbsentError(
                    f"{name}: is not there ({_last_seen(infos[name])}; is `edgebench join` running on it?)"
                )
        self._lab.owner_file(hold.run_id)
        self._lab.release_abandoned()
        self._lab.mail.hold(hold.run_id, hold.names, hold.purpose)
        return packed(True)

    async def _release(self, request: web.Request) -> web.Response:
        self._lab.release(request.match_info["run_id"])
        return packed(True)

    async def _send(self, request: web.Request) -> web.Response:
        order = await asked(request, Send)
        number = self._lab.mail.send(order.run_id, order.machine, order.body, order.key)
        self._lab.presence(order.machine).wake.set()
        return packed(number)

    async def _reports(self, request: web.Request) -> web.Response:
        run_id, after = request.match_info["run_id"], number_of(request, "after")
        until_s = now_s() + waiting_s(request)
        while True:
            self._lab.told.clear()
            found = self._lab.mail.reports(run_id, after)
            if found or self._lab.ending or (left_s := until_s - now_s()) <= 0:
                return packed(found)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lab.told.wait(), left_s)

    def _info(self, member: Member) -> MachineInfo:
        holder = self._lab.mail.holder(member.name)
        presence, facts = self._lab.presence(member.name), member.facts
        if member.near is not None:
            here = self._lab.url.host if member.near == HERE else ""
            return MachineInfo(
                member.name, "device-only", member.role, True, server_address=here, holder=holder, near=member.near
            )
        mend, silent_s = self._lab.mend(facts), presence.silent_s
        if silent_s is None and member.seen_s is not None:
            silent_s = utc_now().timestamp() - member.seen_s
        return MachineInfo(
            name=member.name,
            kind="machine",
            role=member.role,
            present=presence.is_present and presence.session != "",
            address=presence.address,
            server_address=presence.server_address,
            arch=facts.arch,
            cores=facts.cores,
            memory_mb=facts.memory_mb,
            versions=facts.versions,
            same_code=mend is None,
            mend=mend,
            runtimes=facts.runtimes,
            brokers=facts.brokers,
            processors=facts.processors,
            open_files=facts.open_files,
            steps=facts.steps,
            offset=presence.offset,
            last_seen_s=silent_s,
            holder=holder,
            lab_code=code_digest(),
        )


def _last_seen(info: MachineInfo) -> str:
    return "never heard yet" if info.last_seen_s is None else f"last heard {info.last_seen_s:,.0f} s ago"


def _told(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
