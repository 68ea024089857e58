"""Generated patients: the published 48 × 76 inputs, driven by a latent course of illness.

A hidden severity s(t) has a level, a drift, passing crises (which rise and recover) and, in some, a last
decline (which rises and does not). Vitals follow it, each from the patient's own baseline, with noise, and
are charted irregularly. No single reading tells much, since patients differ more than they change:

- death follows the severity of the hours after the 48 observed;
- decompensation is a last decline that kills within 24 h of them;
- heart failure is a second hidden state: a stiff heart rate, a narrow pulse pressure, a weight that creeps up,
  and nightly spells of fast breathing and low saturation.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgebench.seeds import rng_for
from edgebench.tasks.icu.published import NORMAL, STEPS, VARIABLES, carried_forward, encode, feature_names
from edgebench.tasks.task import Dataset, Split

Outcome = Literal["death", "decompensation", "heart-failure"]

STAYS = {"train": 3_000, "valid": 800, "test": 1_000}
_AHEAD = 24
_HOURS = STEPS + _AHEAD
_DECLINE_H = 30

# Baseline, spread between patients, effect of severity, effect of heart failure, noise, chance of being charted.
_VITALS = {
    "Diastolic blood pressure": (64, 11, -3.0, 1.5, 7, 0.9),
    "Fraction inspired oxygen": (0.4, 0.1, 0.05, 0.0, 0.04, 0.15),
    "Glucose": (135, 28, 11, 0, 18, 0.25),
    "Heart Rate": (84, 14, 6.0, 0, 5, 0.95),
    "Height": (170, 10, 0, 0, 0.3, 0.01),
    "Oxygen saturation": (96.3, 1.6, -0.6, 0, 0.9, 0.92),
    "Respiratory rate": (18.5, 3.6, 1.4, 0, 2.3, 0.92),
    "Systolic blood pressure": (124, 19, -5.5, -2.5, 9, 0.9),
    "Temperature": (36.9, 0.4, 0.2, 0, 0.25, 0.3),
    "Weight": (81, 17, 0, 0, 0.5, 0.15),
    "pH": (7.39, 0.04, -0.028, 0, 0.02, 0.12),
}


def generate(outcome: Outcome, *, seed: int) -> Dataset:
    """Train, valid and test splits of generated stays, one sample a stay; see `STAYS` for their sizes."""
    total = sum(STAYS.values())
    x, y = stays(outcome, total, rng_for(seed, "icu-generator"))
    splits, start = {}, 0
    for name, size in STAYS.items():
        rows = slice(start, start + size)
        splits[name] = Split(x=x[rows], y=y[rows], group=np.arange(rows.start, rows.stop, dtype=np.int64))
        start += size
    return Dataset.of(splits, source="generated", real=False, features=feature_names())


def stays(outcome: Outcome, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features float32 [count, 48, 76] and labels float32 [count, 1]; the stays are the same for every outcome."""
    severity, dies_at_h = _course(count, rng)
    failing = (rng.random(count) < 0.3).astype(float)
    ahead = severity[:, STEPS:].mean(axis=1)
    dead = rng.random(count) < 1 / (1 + np.exp(-3.0 * (ahead - 2.2)))
    grid = _charted(severity[:, :STEPS], failing, rng)
    labels = {
        "death": dead,
        "decompensation": (dies_at_h >= STEPS) & (dies_at_h < _HOURS),
        "heart-failure": failing > 0,
    }
    return encode(carried_forward(grid, NORMAL), np.isfinite(grid)), labels[outcome].astype(np.float32)[:, None]


def _course(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Severity [stay, hour] over the observed hours and those ahead, and the hour of death of those who decline."""
    hour = np.arange(_HOURS)[None, :]
    level = rng.normal(0, 0.8, (count, 1))
    drift = rng.normal(0, 0.8, (count, 1))
    wander = np.empty((count, _HOURS))
    wander[:, 0] = rng.normal(0, 0.5, count)
    steps = rng.normal(0, 0.5 * np.sqrt(1 - 0.9**2), (count, _HOURS))
    for t in range(1, _HOURS):
        wander[:, t] = 0.9 * wander[:, t - 1] + steps[:, t]
    severity = level + drift * (hour / STEPS - 0.5) + wander
    for _ in range(2):
        peak = rng.uniform(0, 60, (count, 1))
        height = rng.uniform(0.8, 2.5, (count, 1)) * (rng.random((count, 1)) < 0.5)
        severity += height * np.exp(-(((hour - peak) / 5) ** 2))
    onset = np.where(rng.random((count, 1)) < 0.4, rng.uniform(18, 60, (count, 1)), np.inf)
    severity += np.clip((hour - onset) / 8, 0, 3)
    return severity, onset[:, 0] + _DECLINE_H


def _charted(
    severity: NDArray[np.float64], failing: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """The grid [stay, 48, 17] of what is charted, NaN where nothing is."""
    count, steps = severity.shape
    hour = np.arange(steps)[None, :]
    heart = failing[:, None]
    night = np.clip(np.cos(2 * np.pi * (hour - rng.uniform(0, 24, (count, 1))) / 24), 0, 1) ** 2
    own = {
        "Heart Rate": -0.6 * 6.0 * severity * heart,
        "Oxygen saturation": -1.1 * night * heart,
        "Respiratory rate": 2.0 * night * heart,
        "Weight": rng.normal(0, 0.02, (count, 1)) * hour + 0.02 * hour * heart,
    }
    values: dict[str, NDArray[np.float64]] = {}
    grid = np.full((count, steps, len(VARIABLES)), np.nan, np.float32)
    index = {v.name: i for i, v in enumerate(VARIABLES)}
    for name, (base, spread, slope, lean, noise, often) in _VITALS.items():
        person = base + spread * rng.normal(size=(count, 1))
        value = person + slope * severity + lean * heart + own.get(name, 0.0) + noise * rng.normal(size=(count, steps))
        variable = VARIABLES[index[name]]
        values[name] = np.clip(value, variable.low, variable.high)
        charted = rng.random((count, steps)) < often
        if name in ("Height", "Weight"):
            charted[:, 0] = True
        grid[..., index[name]] = np.where(charted, values[name], np.nan)
    third = (values["Systolic blood pressure"] + 2 * values["Diastolic blood pressure"]) / 3
    with_cuff = np.isfinite(grid[..., index["Systolic blood pressure"]])
    grid[..., index["Mean blood pressure"]] = np.where(with_cuff, third, np.nan)
    _chart_consciousness(grid, index, severity, rng)
    return grid


def _chart_consciousness(
    grid: NDArray[np.float32], index: dict[str, int], severity: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """The coma scale in one of the two spellings that charts use, and capillary refill."""
    count, steps = severity.shape
    clouded = severity + 1.3 * rng.normal(size=(count, 1)) + 0.5 * rng.normal(size=(count, steps)) - 1.2
    eye = np.clip(4 - np.floor(np.maximum(clouded, 0)), 1, 4).astype(int)
    motor = np.clip(6 - np.floor(np.maximum(1.4 * clouded - 0.7, 0)), 1, 6).astype(int)
    verbal = np.clip(5 - np.floor(np.maximum(1.2 * clouded + 0.3, 0)), 1, 5).astype(int)
    old_spelling = rng.random((count, 1)) < 0.5
    charted = rng.random((count, steps)) < 0.25
    spelt = {
        "Glascow coma scale eye opening": (eye, (2, 7, 1, 3), (4, 0, 5, 6)),
        "Glascow coma scale motor response": (motor, (0, 11, 1, 4, 10, 9), (3, 2, 8, 6, 5, 7)),
        "Glascow coma scale verbal response": (verbal, (0, 10, 11, 9, 6), (1, 7, 3, 2, 4)),
    }
    for name, (score, numbered, plain) in spelt.items():
        category = np.where(old_spelling, np.array(plain)[score - 1], np.array(numbered)[score - 1])
        grid[..., index[name]] = np.where(charted, category, np.nan)
    totals = VARIABLES[index["Glascow coma scale total"]].categories
    place = np.array([totals.index(str(t)) if str(t) in totals else 0 for t in range(16)])
    grid[..., index["Glascow coma scale total"]] = np.where(charted, place[eye + motor + verbal], np.nan)
    slow_refill = severity + rng.normal(0, 1.5, (count, steps)) > 2
    seldom = rng.random((count, steps)) < 0.05
    grid[..., index["Capillary refill rate"]] = np.where(seldom, slow_refill, np.nan)
