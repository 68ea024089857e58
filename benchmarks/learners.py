"""Learners: what a training step costs with LiteRT alone, with Keras on TensorFlow, and with torch.

    python benchmarks/learners.py [--json] [--quick]

Two networks with random weights and data, steps of 32 samples, SGD with momentum, gradient clipping and a proximal term:
an LSTM of 16 units on 48 × 76, and three 3 × 3 convolutions (16, 32 and 32 filters, each with a max pooling) on
32 × 32 × 3 with a dense layer. Each learner runs in a fresh process that does nothing else, on one thread; the three
take turns, and a figure is the median of the turns. torch runs the same networks as plain modules. `--quick` takes one
turn of a few steps, to see that it runs.

Keys of the printed object:

lstm, conv: by network:
    convert_s: how long the cloud takes to make the training step's graph, a model of the same kind already loaded.
    step_bytes: size of that graph.
    litert, keras, torch: by learner:
        step_ms: one step, the median of a turn.
        pss_mb, rss_mb: memory of the process after its steps, weights and a few batches of data included: its share of
            what processes have in common, and all of it.
        start_s: from the start of the process to the end of its first step.
    step_vs_keras_ratio, step_vs_torch_ratio: LiteRT's step_ms over that of the other.
    rss_vs_keras_ratio, rss_vs_torch_ratio: LiteRT's rss_mb over that of the other.
turns, host: how often each was measured, and where; `host.stolen` is the share of CPU time that other guests took.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import psutil
from typing import Literal

from cloud.export import Converter, StepConversion, quiet_environment
from edgebench.clock import now_s
from edgebench.federated.learner import LocalPlan, Stepper, local_batches
from edgebench.seeds import rng_for
from edgebench.tasks.task import Loss

Learner = Literal["litert", "keras", "torch"]
