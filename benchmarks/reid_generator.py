"""Shows what DG-Net's generator has learned: pictures painted with the appearance of one and the structure of another.

    python benchmarks/reid_generator.py --out FILE.png [--data DIR] [--epochs 8] [--seed 0]

trains `heavy` of `person-reid` on DIR, or on generated pedestrians, and writes a grid of pictures of people it has not
learned from: at the left whose appearance, at the top whose structure, and what is made of both where they cross.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

ROWS, COLUMNS = 5, 8


def main(data: Path | None, out: Path, epochs: int, seed: int) -> None:
    """Train, write the grid."""
    from edgebench.seeds import rng_for
    from edgebench.tasks import task_named
    from edgebench.tasks.reid.dgnet import write_grid
    from edgebench.tasks.reid.fit import fit

    dataset = task_named("person-reid").load(data, seed=seed)
    trained = fit("heavy", dataset, seed=seed, epochs=epochs, examples=None, progress=None)
    assert trained.dgnet is not None
    rng, test = rng_for(seed, "grid"), dataset.test
    # A picture each of different people, if there are so many.
    people = rng.permutation(np.unique(test.group))[: ROWS + COLUMNS]
    shown = test.x[[rng.choice(np.flatnonzero(test.group == who)) for who in np.resize(people, ROWS + COLUMNS)]]
    write_grid(out, trained.dgnet, shown[:ROWS], shown[ROWS:])
    print(f"{out}: {ROWS} appearances × {COLUMNS} structures, {dataset.source}, {epochs} epochs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    taken = parser.parse_args()
    from cloud.export import QUIET

    os.environ.setdefault("KERAS_BACKEND", QUIET["KERAS_BACKEND"])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", QUIET["TF_CPP_MIN_LOG_LEVEL"])
    main(taken.data, taken.out, taken.epochs, taken.seed)
