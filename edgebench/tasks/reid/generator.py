"""Generated pedestrians: a head, a coat with two sleeves, legs that walk, perhaps a bag or a hat.

Clothes come in few colours, so that many people share them, and differ in pattern and cut as well. Each of three
cameras has its own tint, light and background; a sighting has a pose, a side it is seen from, a place and noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.reid.labels import GALLERY, labels_of
from edgebench.tasks.reid.sources import FEATURES, HEIGHT, WIDTH, split_of, with_queries
from edgebench.tasks.task import Dataset

PEOPLE = {"train": 40, "valid": 12, "test": 24}
CAMERAS, SIGHTINGS = 3, 4
"""How often each camera sees each person."""
COLOURS = np.array(
    [[35, 35, 40], [200, 200, 195], [165, 45, 45], [45, 65, 140], [60, 110, 70], [150, 125, 90]], np.float32
)
"""Of clothes: black, white, red, blue, green, beige."""
PLAIN, HOOPS, PALE_SLEEVES, OPEN, BELT = range(5)
"""Patterns of coats: one colour, hoops, sleeves of the second colour, open over it, a belt of it."""
_NOISE = 6.0


def generate(*, seed: int) -> Dataset:
    """Train, valid and test splits of generated people, each seen `SIGHTINGS` times by each of `CAMERAS` cameras; some
    of the sightings of valid and test are queries."""
    x, identity, camera = pedestrians(sum(PEOPLE.values()), rng_for(seed, "reid-generator"))
    y = labels_of(identity, camera, np.full(len(x), GALLERY))
    splits, start = {}, 0
    for name, people in PEOPLE.items():
        rows = slice(start * CAMERAS * SIGHTINGS, (start + people) * CAMERAS * SIGHTINGS)
        splits[name] = split_of(x[rows], y[rows] if name == "train" else with_queries(y[rows]))
        start += people
    return Dataset.of(splits, source="generated", real=False, features=FEATURES)


def pedestrians(
    people: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Pictures uint8 [people * CAMERAS * SIGHTINGS, 96, 48, 3], and of each the person and the camera, from 1."""
    person, camera = (column.reshape(-1) for column in np.indices((people, CAMERAS, SIGHTINGS)).reshape(3, -1)[:2])
    own = {name: values[person] for name, values in _people(people, rng).items()}
    figure, cover = _figure(own, len(person), rng)
    drawn = np.where(cover, figure, _background(camera, rng))
    tint = rng.uniform(0.88, 1.12, (CAMERAS, 1, 1, 3))[camera]
    exposure = rng.uniform(0.8, 1.15, (len(person), 1, 1, 1))
    noisy = drawn * tint * exposure + _NOISE * rng.standard_normal(drawn.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), person + 1, camera + 1


def _people(people: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """What stays with a person."""
    top = rng.integers(0, len(COLOURS), people)
    second = (top + rng.integers(1, len(COLOURS), people)) % len(COLOURS)
    shade = rng.uniform(0.85, 1.15, (people, 1))
    return {
        "top": COLOURS[top] * shade,
        "second": COLOURS[second] * shade,
        "trousers": COLOURS[rng.integers(0, 4, people)],
        "hair": np.array([[30, 25, 20], [95, 65, 40], [190, 160, 100]])[rng.integers(0, 3, people)],
        "bag_colour": COLOURS[rng.integers(0, len(COLOURS), people)],
        "pattern": rng.integers(0, 5, people),
        "coat": rng.uniform(0.5, 0.68, people),
        "width": rng.uniform(0.15, 0.2, people),
        "bag": rng.random(people) < 0.4,
        "hat": rng.random(people) < 0.3,
    }


def _figure(own: dict[str, NDArray[Any]], count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Colours [sample, 96, 48, 3] of the figures, and where they cover what is behind [sample, 96, 48, 1]."""
    side = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    scale = rng.uniform(0.88, 1.08, count)
    shift_x, shift_y = rng.uniform(-0.05, 0.05, (2, count))
    gait, swing = rng.uniform(-0.14, 0.14, count), rng.uniform(-0.08, 0.08, count)
    turned = rng.uniform(0.75, 1.1, count)
    # In heights of the picture, from the middle of the top; a person is upright in it.
    row, column = np.indices((HEIGHT, WIDTH), np.float32)
    v = ((row + 0.5)[None] / HEIGHT - 0.5 - _each(shift_y)) / _each(scale) + 0.5
    u = _each(side) * ((column + 0.5)[None] / HEIGHT - WIDTH / HEIGHT / 2 - _each(shift_x)) / _each(scale)
    half = _each(own["width"] * turned) / 2 * 1.4
    colour = np.zeros((count, HEIGHT, WIDTH, 3), np.float32)
    cover = np.zeros((count, HEIGHT, WIDTH, 1), np.bool_)

    def put(shape: Any, paint: Any) -> None:
        mask = shape[..., None]
        np.copyto(colour, paint, where=mask, casting="same_kind")
        np.logical_or(cover, mask, out=cover)

    for leg in (-1, 1):
        along = np.clip((v - 0.52) / 0.42, 0, 1)
        put((np.abs(u - leg * (0.03 + _each(gait) * along)) < 0.045) & (v > 0.5) & (v < 0.95), _paint(own["trousers"]))
        put((np.abs(u - leg * (0.03 + _each(gait))) < 0.055) & (v > 0.92) & (v < 0.96), np.full(3, 30.0))
    coat = (np.abs(u) < half * (0.85 + 0.25 * v)) & (v > 0.19) & (v < _each(own["coat"]))
    put(coat, _paint(own["top"]))
    pattern, second = _each(own["pattern"]), _paint(own["second"])
    put(coat & (pattern == HOOPS) & (np.mod(v, 0.09) < 0.035), second)
    put(coat & (pattern == OPEN) & (np.abs(u - 0.02) < 0.035), second)
    put(coat & (pattern == BELT) & (np.abs(v - 0.43) < 0.025), second)
    sleeve_colour = np.where((pattern == PALE_SLEEVES)[..., None], second, _paint(own["top"]) * 0.88)
    for arm in (-1, 1):
        centre = arm * (half + 0.01) + arm * _each(swing) * np.clip((v - 0.22) / 0.3, 0, 1)
        sleeve = (np.abs(u - centre) < 0.032) & (v > 0.21) & (v < 0.5)
        put(sleeve, sleeve_colour)
        put((np.abs(u - centre) < 0.028) & (v >= 0.5) & (v < 0.535), np.array([205.0, 160.0, 130.0]))
    put(
        _each(own["bag"]) & (np.abs(u + half + 0.02) < 0.05) & (v > 0.36) & (v < 0.52),
        _paint(own["bag_colour"]),
    )
    put((u / 0.05) ** 2 + ((v - 0.125) / 0.065) ** 2 < 1, np.array([205.0, 160.0, 130.0]))
    put(((u + 0.012) / 0.055) ** 2 + ((v - 0.1) / 0.05) ** 2 < 1, _paint(own["hair"]))
    put(_each(own["hat"]) & ((u / 0.06) ** 2 + ((v - 0.075) / 0.035) ** 2 < 1), second)
    return colour, cover


def _background(camera: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Ground and what is behind it, of each camera's colours, with a post here and there."""
    far, near = rng.uniform(100, 160, (2, CAMERAS, 1, 1, 1)) + rng.uniform(-20, 20, (2, CAMERAS, 1, 1, 3))
    count = len(camera)
    row, column = np.indices((HEIGHT, WIDTH))[:, None]
    horizon = rng.uniform(0.1, 0.7, (count, 1, 1)) * HEIGHT
    ground = np.where((row > horizon)[..., None], near[camera], far[camera])
    post = (np.abs(column - rng.uniform(-WIDTH, 2 * WIDTH, (count, 1, 1))) < 4)[..., None]
    return np.where(post, rng.uniform(40, 220, (count, 1, 1, 3)), ground) + rng.uniform(-25, 25, (count, 1, 1, 1))


def _each(values: Any) -> Any:
    """[sample] for [sample, height, width]."""
    return (values.astype(np.float32) if values.dtype == np.float64 else values)[:, None, None]


def _paint(colours: Any) -> Any:
    """[sample, 3] for [sample, height, width, 3]."""
    return colours[:, None, None, :]
