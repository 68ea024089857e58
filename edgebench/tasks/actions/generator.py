"""Generated people: stick figures who perform the 20 actions of MSR-Action3D before the same kind of camera.

An action is a path of both hands and feet, in arm and leg lengths from shoulder and hip, and how far the trunk leans;
elbows and knees follow by inverse kinematics. Each person has limbs, a way to stand, a pace, and a way of their own to
do each action; each take differs a little from the last, and the camera adds noise and loses a frame here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.actions.skeletons import JOINTS, normalised, to_bytes
from edgebench.tasks.task import Dataset, Split

PEOPLE = {"train": 10, "valid": 4, "test": 6}
TAKES = 3

_FRAMES = 60
_Points = Sequence[tuple[float, float, float]]
"""Outwards, up and forward, in lengths of the limb from where it begins."""

_HAND, _FOOT = (0.12, -0.95, 0.1), (0.08, -0.97, 0.0)
_CIRCLE = tuple((0.35 * np.sin(a), 0.1 + 0.35 * np.cos(a), 0.75) for a in np.linspace(0, 2 * np.pi, 9))
_RUN_ARM = ((0.1, -0.5, 0.45), (0.15, -0.7, -0.25))
_RUN_LEG = ((0.08, -0.75, 0.25), (0.08, -0.9, -0.2))


@dataclass(frozen=True)
class _Action:
    """Points that are passed at even times after, and before, the limb hangs. lean: of the trunk forward, in rad."""

    right: _Points = ()
    left: _Points = ()
    right_foot: _Points = ()
    left_foot: _Points = ()
    lean: Sequence[float] = ()


_ACTIONS = (
    _Action(right=((0.3, 0.85, 0.2), (-0.2, 0.85, 0.3)) * 2),
    _Action(right=((0.75, 0.1, 0.5), (-0.3, 0.1, 0.75)) * 2),
    _Action(right=((0.1, 0.55, 0.45), (0.05, -0.15, 0.8)) * 2),
    _Action(right=((0.2, 0.2, 0.9), (0.1, -0.25, 0.4))),
    _Action(right=((0.1, -0.25, 0.3), (-0.05, 0.05, 0.98), (0.1, -0.25, 0.3))),
    _Action(right=((0.35, 0.45, -0.4), (0.1, 0.7, 0.5), (-0.2, -0.4, 0.6))),
    _Action(right=((-0.4, 0.35, 0.7), (0.4, -0.35, 0.7), (0.4, 0.35, 0.7), (-0.4, -0.35, 0.7))),
    _Action(right=((-0.3, 0.05, 0.8), (-0.1, -0.3, 0.8), (0.45, 0.4, 0.65))),
    _Action(right=_CIRCLE),
    _Action(right=((0.25, -0.1, 0.7), (-0.4, -0.1, 0.7)) * 2, left=((0.25, -0.1, 0.7), (-0.4, -0.1, 0.7)) * 2),
    _Action(right=((0.6, 0.75, 0.1), (0.0, 0.9, 0.2)) * 2, left=((0.6, 0.75, 0.1), (0.0, 0.9, 0.2)) * 2),
    _Action(right=((0.2, -0.2, 0.4), (0.9, 0.15, 0.2), (0.2, -0.2, 0.4)), left=((0.2, -0.2, 0.4),) * 3),
    _Action(right=((0.1, -0.8, 0.5),), left=((0.1, -0.8, 0.5),), lean=(1.2,)),
    _Action(right_foot=((0.1, -0.7, -0.3), (0.05, -0.6, 0.75))),
    _Action(right_foot=((0.0, -0.8, 0.1), (0.75, -0.6, 0.1))),
    _Action(right=_RUN_ARM * 3, left=_RUN_ARM[::-1] * 3, right_foot=_RUN_LEG[::-1] * 3, left_foot=_RUN_LEG * 3),
    _Action(right=((0.8, -0.1, -0.3), (0.4, 0.0, 0.85), (-0.45, 0.5, 0.5)), left=((0.2, -0.5, 0.5),) * 2),
    _Action(
        right=((0.3, -0.4, -0.3), (0.4, 0.5, -0.3), (0.1, 0.95, 0.2), (-0.4, -0.4, 0.5)),
        left=((0.0, 0.0, 0.7), (0.0, 0.9, 0.4), (0.1, -0.2, 0.4)),
    ),
    _Action(
        right=((-0.35, -0.8, 0.4), (0.6, 0.4, 0.2), (-0.4, -0.75, 0.45), (-0.7, 0.4, 0.3)),
        left=((-0.2, -0.8, 0.4), (-0.75, 0.1, 0.4), (-0.2, -0.75, 0.45), (0.4, 0.5, 0.2)),
        lean=(0.3, 0.1, 0.3, 0.0),
    ),
    _Action(right=((0.1, -0.8, 0.5), (0.35, 0.4, -0.4), (-0.2, -0.3, 0.7)), lean=(1.1, 0.0, 0.2)),
)

# Of a body with a torso of half a metre.
_SPINE_M, _NECK_M, _HEAD_M, _SHOULDER_M, _HIP_M = 0.15, 0.5, 0.7, 0.18, 0.09
_ARM_M, _LEG_M = (0.29, 0.26), (0.42, 0.40)
_HAND_M, _FOOT_M = 0.08, 0.12


def generate(*, seed: int) -> Dataset:
    """People who are in one split each, all actions of each of them; see `PEOPLE` and `TAKES`."""
    rng = rng_for(seed, "actions-generator")
    splits, first = {}, 0
    for name, people in PEOPLE.items():
        person = np.repeat(np.arange(first, first + people), len(_ACTIONS) * TAKES)
        action = np.tile(np.repeat(np.arange(len(_ACTIONS)), TAKES), people)
        frames, lengths = _performed(person - first, action, rng)
        take = np.arange(len(person)) + first * len(_ACTIONS) * TAKES
        x, y = to_bytes(normalised(frames, lengths)), action[:, None].astype(np.float32)
        splits[name] = Split(x, y, group=take.astype(np.int64), key=person.astype(np.int64))
        first += people
    return Dataset.of(splits, source="generated", real=False, features=JOINTS, natural_key="person")


def _performed(
    person: NDArray[np.int64], action: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Frames [frame, joint, 3] in metres, one sequence after another, and the length of each."""
    people, takes = int(person.max()) + 1, len(person)
    size = rng.normal(1, 0.06, (people, 1, 1, 1))[person]
    pace = rng.uniform(0.75, 1.3, people)[person] * rng.uniform(0.9, 1.1, takes)
    lengths = np.clip(45 / pace, 25, _FRAMES).astype(np.int64)
    # A person stands still for a while before and after.
    begins, ends = rng.uniform(0, 0.35, (takes, 1)), rng.uniform(0.65, 1, (takes, 1))
    clock = np.clip((np.arange(_FRAMES) / (lengths[:, None] - 1) - begins) / (ends - begins), 0, 1)
    joints = _body(person, action, clock, rng) * size
    turn = rng.normal(0, 0.45, people)[person] + rng.normal(0, 0.08, takes)
    seen = np.einsum("nftc,ncd->nftd", joints, _turned(turn)) + np.array([0.0, 0.0, 2.8])
    seen += rng.normal(0, 0.03, seen.shape)
    lost = rng.random((takes, _FRAMES)) < 0.02
    lost[:, 0] = False  # or nothing might be left
    seen[lost] = 0.0
    return seen[np.arange(_FRAMES) < lengths[:, None]], lengths


def _body(
    person: NDArray[np.int64], action: NDArray[np.int64], clock: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Joints [take, frame, joint, 3]: x to the camera's right, y up, z away from it, the hip centre in the middle."""
    lean = _path(person, action, clock, [_lean(each) for each in _ACTIONS], 0.12, rng)[..., :1]
    up = np.concatenate([0 * lean, np.cos(lean), -np.sin(lean)], axis=-1)
    at: dict[str, NDArray[np.float64]] = {"hip centre": np.zeros_like(up), "spine": _SPINE_M * up}
    at |= {"neck": _NECK_M * up, "head": _HEAD_M * up}
    # A person faces the camera: the right hand is on its left.
    for side, out in (("right", -1.0), ("left", 1.0)):
        axes = np.array([out, 1.0, -1.0])
        hands = [(_HAND, *(each.right if side == "right" else each.left), _HAND) for each in _ACTIONS]
        feet = [(_FOOT, *(each.right_foot if side == "right" else each.left_foot), _FOOT) for each in _ACTIONS]
        shoulder, hip = at["neck"] + (out * _SHOULDER_M, -0.03, 0), at["hip centre"] + (out * _HIP_M, -0.06, 0)
        hand = axes * _path(person, action, clock, hands, 0.28, rng) * sum(_ARM_M)
        foot = axes * _path(person, action, clock, feet, 0.12, rng) * sum(_LEG_M)
        elbow, wrist = _bent(hand, _ARM_M, np.array([0.4 * out, -1.0, 0.6]))
        knee, ankle = _bent(foot, _LEG_M, np.array([0.0, 0.2, -1.0]))
        forearm = (wrist - elbow) / _ARM_M[1]
        at |= {f"{side} shoulder": shoulder, f"{side} elbow": shoulder + elbow, f"{side} wrist": shoulder + wrist}
        at |= {f"{side} hand": shoulder + wrist + _HAND_M * forearm}
        at |= {f"{side} hip": hip, f"{side} knee": hip + knee, f"{side} ankle": hip + ankle}
        at |= {f"{side} foot": hip + ankle + (0.0, -0.04, -_FOOT_M)}
    return np.stack([at[joint] for joint in JOINTS], axis=2)


def _lean(action: _Action) -> _Points:
    return [(angle, 0.0, 0.0) for angle in (0.0, *action.lean, 0.0)]


def _path(
    person: NDArray[np.int64],
    action: NDArray[np.int64],
    clock: NDArray[np.float64],
    points: Sequence[_Points],
    spread: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Where each take is at each frame, [take, frame, 3]: from point to point of its action, smoothly.

    points: of each action. spread: how far people differ in a point; takes of one person differ half as much.
    """
    most = max(map(len, points))
    padded = np.array([[*each, *[each[-1]] * (most - len(each))] for each in points])
    own = rng.normal(0, spread, (int(person.max()) + 1, *padded.shape))
    key = (padded + own)[person, action] + rng.normal(0, spread / 2, (len(person), most, 3))
    place = clock * (np.array([len(each) for each in points])[action, None] - 1)
    before = np.minimum(place.astype(np.int64), most - 2)
    share = place - before
    eased = (share * share * (3 - 2 * share))[..., None]
    take = np.arange(len(person))[:, None]
    return key[take, before] * (1 - eased) + key[take, before + 1] * eased


def _bent(
    end: NDArray[np.float64], lengths: tuple[float, float], towards: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The joint between two bones, and the end of the second one, from where the first begins: [take, frame, 3].

    end: where the second bone should end; it ends on the way there where that is out of reach. towards: where the joint
    points to.
    """
    first, second = lengths
    straight = np.linalg.norm(end, axis=-1, keepdims=True)
    along = end / np.maximum(straight, 1e-6)
    reach = np.clip(straight, abs(first - second) + 0.05, first + second - 1e-3)
    forward = (first**2 - second**2 + reach**2) / (2 * reach)
    aside = towards - (along @ towards)[..., None] * along
    aside /= np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-6)
    return forward * along + np.sqrt(np.maximum(first**2 - forward**2, 0)) * aside, reach * along


def _turned(angle: NDArray[np.float64]) -> NDArray[Any]:
    """Rotations about the vertical axis, [take, 3, 3], to multiply rows from the left."""
    found = np.zeros((len(angle), 3, 3))
    found[:, 0, 0] = found[:, 2, 2] = np.cos(angle)
    found[:, 0, 2], found[:, 2, 0] = np.sin(angle), -np.sin(angle)
    found[:, 1, 1] = 1
    return found
