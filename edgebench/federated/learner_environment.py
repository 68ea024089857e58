"""What the processes in which clients learn are told by their environment."""

from __future__ import annotations

from edgebench.topology.model import Learners


def environment_for(learners: Learners, keras_backend: str | None) -> dict[str, str]:
    """What torch, TensorFlow and Keras are told in a learner. keras_backend: None leaves it to what is learned."""
    threads = str(learners.threads)
    told = {
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if not learners.gpu:
        told["CUDA_VISIBLE_DEVICES"] = "-1"
    return told if keras_backend is None else {**told, "KERAS_BACKEND": keras_backend}
