"""Frames drawn from the geometry of lanes.

A flat road seen from a car: what lies on it shrinks with the distance to the horizon, which is where the lanes would
meet. Markings run along the given lanes (solid, dashed or dots, white or yellow, worn, some hardly to be seen), and
nothing else in the frame knows of them: seams and tyre tracks run beside and between, joints and patches cross, shadows
fall, other cars hide what is behind them, and a skyline, walls and poles clutter the horizon. Then light, haze, colour,
blur and noise of the camera. A marking fades out a little beyond the ends that its label states. No frame is a
photograph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.lanes.geometry import FRAME, LANES, WIDTH, lanes_of
from edgebench.tasks.lanes.road import DX, DY, PIXEL_X, PIXEL_Y, Array, Road

_CHUNK = 32
_CARS = 7


def draw(labels: NDArray[np.float32], *, seed: int, purpose: str) -> NDArray[np.uint8]:
    """Frames uint8 [sample, *FRAME, 3] of labels [sample, lane * row]. Another `purpose` draws the same roads anew."""
    lanes = lanes_of(labels)
    frames = np.empty((len(lanes), *FRAME, 3), np.uint8)
    for start in range(0, len(lanes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        frames[rows] = _drawn(
            Road.along(lanes[rows]), _Chance(rng_for(seed, "draw", purpose, start), len(frames[rows]))
        )
    return frames


class _Chance:
    """Chance for all frames of a chunk at once; `n` of them."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng, self.n = rng, n

    def between(self, low: float, high: float, *shape: int) -> Array:
        """Evenly spread, [n, *shape]."""
        return self.rng.uniform(low, high, (self.n, *shape)).astype(np.float32)

    def whether(self, chance: float, *shape: int) -> NDArray[np.bool_]:
        """True as often as `chance`, [n, *shape]."""
        return self.rng.random((self.n, *shape)) < chance

    def grain(self, strength: float) -> Array:
        """Independent noise for each pixel and colour, [n, 3, *FRAME], out of a pool that frames share, to be quick."""
        pool = self.rng.normal(0, strength, 1 << 18).astype(np.float32)
        size = FRAME[0] * FRAME[1] * 3
        starts = self.rng.integers(0, len(pool) - size, self.n)
        return pool[starts[:, None] + np.arange(size)].reshape(self.n, 3, *FRAME)

    def clouds(self, rows: int, columns: int) -> Array:
        """Smooth noise of that many bumps, [n, *FRAME], within ±1."""
        knots = self.rng.uniform(-1, 1, (self.n, rows, columns)).astype(np.float32)
        return np.asarray(_between_knots(rows, FRAME[0]) @ knots @ _between_knots(columns, FRAME[1]).T, np.float32)

    def profile(self, knots: int, length: int) -> Array:
        """Smooth noise along a line, [n, length], within ±1."""
        return self.rng.uniform(-1, 1, (self.n, knots)).astype(np.float32) @ _between_knots(knots, length).T


def _between_knots(knots: int, length: int) -> Array:
    """The matrix [length, knots] that interpolates linearly."""
    place = np.linspace(0, knots - 1, length)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(knots))).astype(np.float32)


def _drawn(road: Road, chance: _Chance) -> NDArray[np.uint8]:
    picture = _landscape(road, chance)
    on_road = _road_mask(road, chance)
    _mix(picture, _asphalt(road, chance), on_road)
    _paint_markings(picture, road, chance)
    _shade(picture, road, chance)
    for car in range(_CARS):
        _park(picture, road, chance, nearness=(car + 1) / _CARS)
    return _photographed(picture, road, chance)


def _mix(picture: Array, colour: Array, cover: Array) -> None:
    """Lay a colour [n, 3] or [n, 3, y, x] over the picture where cover [n, y, x] is."""
    covered = np.flatnonzero(cover.any((0, 2)))
    if not len(covered):
        return
    rows = slice(covered[0], covered[-1] + 1)
    layer = (colour[:, :, rows] if colour.ndim == 4 else colour[:, :, None, None]) - picture[:, :, rows]
    layer *= cover[:, None, rows].astype(np.float32, copy=False)
    picture[:, :, rows] += layer


def _grey(chance: _Chance, low: float, high: float, tint: float) -> Array:
    """A nearly grey colour [n, 3]."""
    return chance.between(low, high, 1) + chance.between(-tint, tint, 3)


def _landscape(road: Road, chance: _Chance) -> Array:
    """Sky, hills and trees, the land beside the road, walls and poles: [n, 3, y, x]."""
    y, horizon = PIXEL_Y[None, :, None], road.horizon[:, :, None]
    blue = chance.between(0.45, 1.0, 1) * np.array([0.8, 0.92, 1.0], np.float32) + chance.between(-0.05, 0.05, 3)
    fading = 1 - 0.25 * (1 - np.clip(y / np.maximum(horizon, 1), 0, 1)) * chance.between(-0.3, 1, 1, 1)
    cloudy = (chance.clouds(5, 7) * 0.6 + chance.clouds(11, 17) * 0.4) * chance.between(0, 0.25, 1, 1)
    picture = (blue[:, :, None, None] * (fading + cloudy)[:, None]).astype(np.float32)
    for scale, (low, high) in ((6, (-10, 70)), (24, (-5, 90)), (60, (-40, 60))):
        rise = chance.between(low, high, 1) + chance.profile(scale, FRAME[1]) * chance.between(10, 70, 1)
        colour = chance.between(0.05, 0.45, 1) * np.array([0.9, 1.0, 0.8], np.float32) + chance.between(-0.04, 0.04, 3)
        rough = 1 + 0.5 * chance.clouds(27, 53) * chance.between(0, 1, 1, 1)
        cover = np.clip((y - (horizon - rise[:, None, :])) / DY + 0.5, 0, 1)
        _mix(picture, colour[:, :, None, None] * rough[:, None], cover)
    land = chance.between(0.15, 0.55, 1) * np.array([1.0, 0.95, 0.7], np.float32) + chance.between(-0.05, 0.05, 3)
    rough = 1 + chance.clouds(20, 20) * 0.4 + chance.clouds(40, 80) * 0.3
    _mix(picture, land[:, :, None, None] * rough[:, None], np.clip((y - horizon) / DY, 0, 1))
    _poles(picture, road, chance)
    _walls(picture, road, chance)
    return picture


def _poles(picture: Array, road: Road, chance: _Chance) -> None:
    """Upright and flat boxes about the horizon: poles, signs, houses, bridges."""
    y, x = PIXEL_Y[None, :, None], PIXEL_X[None, None, :]
    for _ in range(5):
        middle, foot = chance.between(-50, WIDTH + 50, 1, 1), road.horizon[:, :, None] + chance.between(-60, 30, 1, 1)
        half = np.exp(chance.between(1.0, 4.5, 1, 1))
        tall = np.exp(chance.between(2.5, 5.0, 1, 1))
        cover = _within(x, middle - half, middle + half, DX) * _within(y, foot - tall, foot, DY)
        cover *= chance.whether(0.6, 1, 1)
        _mix(picture, _grey(chance, 0.05, 0.8, 0.1), cover)


def _within(at: Array, low: Array, high: Array, pixel: float) -> Array:
    """How far a pixel lies between low and high."""
    return np.clip((at - low) / pixel + 0.5, 0, 1) * np.clip((high - at) / pixel + 0.5, 0, 1)


def _walls(picture: Array, road: Road, chance: _Chance) -> None:
    """A wall or a rail along each side: as high above the road's edge as it is near."""
    y, x = PIXEL_Y[None, :, None], PIXEL_X[None, None, :]
    for side, edge in zip((-1, 1), road.edges, strict=True):
        away = chance.between(0.4, 2.5, 1) * road.pace
        # Where a column of the frame meets the wall's foot: approximated by the lane nearest the middle distance.
        middle = road.depth.shape[1] // 2
        slope = (edge[:, -1] - edge[:, middle])[:, None] / (PIXEL_Y[-1] - PIXEL_Y[middle]) + side * away
        start = edge[:, middle][:, None] + side * away * road.depth[:, middle][:, None]
        slope = np.where(np.abs(slope) < 0.4, side * 0.4, slope)
        foot = PIXEL_Y[middle] + (x[:, 0] - start) / slope
        far = foot - road.horizon
        top = foot - far * chance.between(0.1, 0.6, 1)
        cover = _within(y, top[:, None, :], foot[:, None, :], DY) * (far[:, None, :] > 5) * chance.whether(0.5, 1, 1)
        _mix(picture, _grey(chance, 0.15, 0.75, 0.08), cover)


def _road_mask(road: Road, chance: _Chance) -> Array:
    x = PIXEL_X[None, None, :]
    left, right = (
        edge + side * chance.between(0.08, 1.6, 1) * road.pace * road.depth
        for side, edge in zip((-1, 1), road.edges, strict=True)
    )
    below = np.clip((PIXEL_Y[None, :, None] - road.horizon[:, :, None]) / DY, 0, 1)
    return _within(x, left[:, :, None], right[:, :, None], 2 * DX) * below


def _asphalt(road: Road, chance: _Chance) -> Array:
    """The surface [n, 3, y, x]: lanes of unequal age, tracks, seams, joints, patches."""
    across, near = road.across(), np.clip(road.depth / 200, 0.1, 1)[:, :, None]
    shade = 1 + 0.12 * chance.clouds(4, 5) + 0.06 * chance.clouds(20, 30)
    streaks = chance.profile(90, 512) * 0.5 + chance.profile(25, 512) * 0.5
    column = np.clip((across + 2.5) / 9 * 511, 0, 511).astype(np.int64)
    along = np.take_along_axis(streaks, column.reshape(len(column), -1), axis=1).reshape(column.shape)
    shade += chance.between(0.02, 0.3, 1, 1) * along * near**0.5
    ages = chance.between(-1, 1, 10) * chance.between(0, 0.14, 1)
    lane = np.clip(np.floor(across + chance.between(-0.1, 0.1, 1, 1)) + 2, 0, 9).astype(np.int64)
    shade += np.take_along_axis(ages, lane.reshape(len(lane), -1), axis=1).reshape(lane.shape)
    for _ in range(4):
        # Seams, cracks and old paint that nobody painted over quite: they run along the road, too.
        at, width = chance.between(-1.5, 5, 1, 1), chance.between(0.01, 0.05, 1, 1)
        seam = np.clip((width - np.abs(across - at + 0.05 * chance.clouds(5, 1))) / width, 0, 1)
        shade += seam * chance.between(-0.35, 0.22, 1, 1) * near * chance.whether(0.6, 1, 1)
    for _ in range(3):
        depth = np.exp(chance.between(2.5, 6, 1, 1))
        joint = np.clip(1 - np.abs(road.depth[:, :, None] - depth) / (2 + depth * 0.02), 0, 1)
        shade += joint * chance.between(-0.3, 0.15, 1, 1) * chance.whether(0.3, 1, 1)
    for _ in range(3):
        at, from_depth = chance.between(-1, 4, 1, 1), chance.between(20, 400, 1, 1)
        patch = (np.abs(across - at) < chance.between(0.1, 0.5, 1, 1)) & (
            np.abs(road.depth[:, :, None] - from_depth) < from_depth * chance.between(0.05, 0.4, 1, 1)
        )
        shade += patch * chance.between(-0.25, 0.15, 1, 1) * chance.whether(0.3, 1, 1)
    return _grey(chance, 0.18, 0.55, 0.03)[:, :, None, None] * shade[:, None]


def _paint_markings(picture: Array, road: Road, chance: _Chance) -> None:
    kinds = chance.between(0, 1, LANES)
    last = road.there.sum(1) - 1
    yellow = chance.whether(0.35)
    for lane in range(LANES):
        outer = (lane == 0) | (lane == last)
        kind = kinds[:, lane]
        solid = kind < np.where(outer, 0.75, 0.12)
        dots = ~solid & (kind > 0.9)
        double = (solid & (kind < 0.1))[:, None]
        strength = chance.between(0.25, 1.0) * np.where(chance.whether(0.1), 0.3, 1.0)
        painted = _painted_share(road, chance, solid, dots)
        worn = np.clip(1 - chance.between(0, 1.2, 1) * (0.5 + 0.5 * chance.profile(35, FRAME[0])), 0, 1)
        seen = painted * worn * strength[:, None] * _visible(road, lane, chance)
        width = chance.between(0.025, 0.055, 1) * np.where(double, 0.7, 1.0)
        white = _grey(chance, 0.7, 1.0, 0.03)
        amber = chance.between(0.6, 0.95, 1) * np.array([1.0, 0.75, 0.25], np.float32)
        colour = np.where((yellow & (lane == 0))[:, None], amber, white)
        # A seam of the concrete under or beside the paint.
        seam = chance.whether(0.5)[:, None] * chance.between(0, 0.7, 1) * _visible(road, lane, chance)
        beside = chance.between(-0.06, 0.06, 1)
        _mix(
            picture,
            picture[:, :, -1].mean(2) * 0.4,
            _strip(road, lane, beside, chance.between(0.01, 0.03, 1)) * seam[:, :, None],
        )
        for shift in (0.0, 1.0):
            apart = np.where(double, (shift - 0.5) * 0.09, 0.0)
            there = np.where(double, True, shift == 0.0)
            _mix(picture, colour, _strip(road, lane, apart, width) * (seen * there)[:, :, None])


def _visible(road: Road, lane: int, chance: _Chance) -> Array:
    """How far [n, y] a lane's marking is seen, by its ends."""
    upper = road.upper[:, lane, None] - chance.between(0, 15, 1)
    lower = road.lower[:, lane, None] + chance.between(0, 20, 1)
    return _within(PIXEL_Y[None, :], upper, lower, DY) * road.there[:, lane, None]


def _strip(road: Road, lane: int, beside: Array, width: Array) -> Array:
    """How much of each pixel [n, y, x] a strip of a lane's width takes, `beside` the lane's line.

    beside, width: shares of a lane's width [n, 1].
    """
    unit = road.pace * road.depth
    centre = road.x[:, lane] + beside * unit
    half = np.maximum(width * unit / 2, 0.5)
    # A pixel sees the strip move sideways over its height: the strip is blurred by that.
    blur = (np.abs(np.gradient(road.x[:, lane], axis=1)) + DX) / 2
    distance = np.abs(PIXEL_X[None, None, :] - centre[:, :, None])
    most = np.minimum(1, half / blur)[:, :, None]
    return np.clip((half + blur)[:, :, None] - distance, 0, None).clip(None, 2 * blur[:, :, None] * most) / (
        2 * blur[:, :, None]
    )


def _painted_share(road: Road, chance: _Chance, solid: NDArray[np.bool_], dots: NDArray[np.bool_]) -> Array:
    """How much of the road between a row's upper and lower edge is painted [n, y]."""
    period = np.where(dots, chance.between(5, 8), chance.between(9, 14))[:, None]
    painted = np.where(dots, chance.between(0.4, 1.0), chance.between(2.5, 5.0))[:, None]
    phase = chance.between(0, 12, 1)
    far, close = (road.ahead_m(np.broadcast_to(PIXEL_Y + d, road.depth.shape)) + phase for d in (-DY / 2, DY / 2))

    def so_far(z: Array) -> Array:
        return np.floor(z / period) * painted + np.minimum(z % period, painted)

    share = (so_far(far) - so_far(close)) / np.maximum(far - close, 1e-3)
    return np.where(solid[:, None], 1.0, np.clip(share, 0, 1)).astype(np.float32)


def _shade(picture: Array, road: Road, chance: _Chance) -> None:
    """Shadows: of trees (ragged), of a bridge (a band across), of a wall (along the road)."""
    across, depth = road.across(), road.depth[:, :, None]
    below = np.clip((PIXEL_Y[None, :, None] - road.horizon[:, :, None]) / DY, 0, 1)
    ragged = np.clip((chance.clouds(9, 9) + 0.6 * chance.clouds(26, 40) - chance.between(0.2, 0.8, 1, 1)) * 4, 0, 1)
    dark = ragged * chance.between(0.1, 0.6, 1, 1) * chance.whether(0.3, 1, 1)
    start, tilt = np.exp(chance.between(2.5, 6, 1, 1)), chance.between(-0.15, 0.15, 1, 1)
    moved = depth + tilt * (PIXEL_X - WIDTH / 2)
    bridge = (moved > start) & (moved < start * chance.between(1.1, 2.2, 1, 1))
    dark = np.maximum(dark, bridge * chance.between(0.2, 0.6, 1, 1) * chance.whether(0.12, 1, 1))
    edge = chance.between(-1, 4, 1, 1) + 0.15 * chance.clouds(8, 2)
    side = np.clip((across - edge) * 8 * np.where(chance.whether(0.5, 1, 1), 1, -1), 0, 1)
    dark = np.maximum(dark, side * chance.between(0.1, 0.5, 1, 1) * chance.whether(0.15, 1, 1))
    picture *= (1 - dark * below)[:, None]


def _park(picture: Array, road: Road, chance: _Chance, *, nearness: float) -> None:
    """Another vehicle, seen from behind, in a lane: the nearer ones come later and hide those before."""
    n, rows = chance.n, road.depth.shape[1]
    # Few are near enough to hide much.
    depth = np.exp(np.log(14) + (np.log(260) - np.log(14)) * np.clip(nearness + chance.between(-0.14, 0.14), 0, 1))
    foot = road.horizon[:, 0] + depth
    row = np.clip((foot / DY).astype(np.int64), 0, rows - 1)
    lanes = road.there.sum(1)
    gap = np.floor(chance.between(-0.6, 1) * (lanes + 0.6)).astype(np.int64)
    unit = road.pace[:, 0] * depth
    at_left = road.x[np.arange(n), np.clip(gap, 0, LANES - 1), row]
    middle = at_left + unit * (0.5 + chance.between(-0.15, 0.15)) - np.where(gap < 0, unit, 0)
    # The car's own lane is mostly free close ahead.
    ahead = (np.abs(middle - WIDTH / 2) < unit * 0.6) & (depth > 90)
    there = (chance.whether(0.45) & ~(ahead & chance.whether(0.8))).astype(np.float32)[:, None, None]
    truck = chance.whether(0.15)
    half = unit * np.where(truck, 0.33, 0.24) * chance.between(0.9, 1.1)
    tall = half * np.where(truck, chance.between(2.0, 3.0), chance.between(1.3, 1.9))
    middle, foot, half, tall = (a[:, None, None] for a in (middle, foot, half, tall))
    touched = slice(max(0, int((foot - tall).min() / DY) - 1), int((foot + tall * 0.1).max() / DY) + 2)
    picture, y, x = picture[:, :, touched], PIXEL_Y[None, touched, None], PIXEL_X[None, None, :]
    blurred = (1 + depth[:, None, None] / 60).astype(np.float32)
    ground = _within(x, middle - half * 1.15, middle + half * 1.15, DX * blurred)
    ground = ground * _within(y, foot - tall * 0.2, foot + tall * 0.08, DY)
    picture *= (1 - ground * there * chance.between(0.4, 0.9, 1, 1))[:, None]
    body = _grey(chance, 0.05, 0.9, 0.15) * np.where(chance.whether(0.4, 1), 0.3, 1.0)
    lower = _within(x, middle - half, middle + half, DX) * _within(y, foot - tall * 0.6, foot - tall * 0.07, DY)
    _mix(picture, body, lower * there)
    narrow = half * np.where(truck[:, None, None], 1.0, 0.82)
    cabin = _within(x, middle - narrow, middle + narrow, DX) * _within(y, foot - tall, foot - tall * 0.6, DY)
    _mix(picture, body, cabin * there)
    window = _within(x, middle - narrow * 0.85, middle + narrow * 0.85, DX)
    window = window * _within(y, foot - tall * 0.92, foot - tall * 0.62, DY) * ~truck[:, None, None]
    _mix(picture, _grey(chance, 0.02, 0.25, 0.03), window * there)
    red = chance.between(0.4, 1.0, 1) * np.array([1.0, 0.15, 0.1], np.float32)
    for side in (-1, 1):
        at = middle + side * half * 0.85
        lamp = _within(x, at - half * 0.15, at + half * 0.15, DX)
        lamp = lamp * _within(y, foot - tall * 0.55, foot - tall * 0.4, DY)
        _mix(picture, red, lamp * there * 0.8)
        wheel = _within(x, at - half * 0.17, at + half * 0.17, DX) * _within(y, foot - tall * 0.15, foot, DY)
        _mix(picture, np.full((n, 3), 0.04, np.float32), wheel * there)


def _photographed(picture: Array, road: Road, chance: _Chance) -> NDArray[np.uint8]:
    """Haze, exposure, colour cast, uneven light, lack of sharpness and noise."""
    haze = np.exp(-road.depth / chance.between(8, 60, 1)) * (road.horizon < PIXEL_Y) * chance.between(0, 0.7, 1)
    _mix(picture, _grey(chance, 0.4, 0.9, 0.05), haze[:, :, None])
    light = chance.between(0.55, 1.35, 1, 1) * (1 + 0.25 * chance.clouds(3, 3) * chance.between(0, 1, 1, 1))
    picture *= light[:, None]
    picture *= 1 + chance.between(-0.07, 0.07, 3, 1, 1)
    picture += chance.between(-0.03, 0.1, 1, 1, 1)
    soft = chance.between(0, 0.45, 1, 1, 1)
    picture[..., 1:-1] += soft * (0.5 * (picture[..., 2:] + picture[..., :-2]) - picture[..., 1:-1])
    picture += chance.grain(1.0) * chance.between(0.003, 0.03, 1, 1, 1)
    np.clip(picture, 0, 1, out=picture)
    return (picture * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
