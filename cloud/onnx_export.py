"""From a torch module to the ONNX file that a runtime loads."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import torch

from edgebench.errors import ModelError
from edgebench.inference.spec import TensorSpec


def write_onnx(module: torch.nn.Module, spec: TensorSpec, path: Path) -> int:
    """Write a module as `Task.fit` gives it, for any number of samples of the spec; how many values it gives for one.

    Raises ModelError with the reason.
    """
    example = torch.from_numpy(np.zeros((2, *spec.shape), spec.dtype))
    module.eval()
    with torch.no_grad():
        outputs = module(example)
    try:
        # It greets on standard output, and warns of changes to come of its own.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                module,
                (example,),
                str(path),
                dynamo=True,
                input_names=["x"],
                output_names=["y"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
            )
    except (RuntimeError, ValueError, TypeError, torch.onnx.OnnxExporterError) as error:
        raise ModelError(f"onnx: {type(error).__name__}: {' '.join(str(error).split())[:500]}") from error
    return int(outputs.shape[1])
