"""Lets TensorFlow and torch be used in one process, where torch has Triton with it (as PyPI's for Linux has).

TensorFlow from 2.20 on offers its LLVM to all libraries that are loaded after it, and Triton from 3.7 on takes it for
its own, and crashes (https://github.com/tensorflow/tensorflow/issues/124205). torch loads Triton late, with the first
optimiser; here it is loaded as TensorFlow begins to be.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _TritonFirst:
    """Finds nothing by itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "tensorflow.python":  # whoever asks whether TensorFlow is there asks for no part of it
            with contextlib.suppress(ImportError):  # it is not there, and need not be
                importlib.import_module("triton._C.libtriton")
        return None


def install() -> None:
    """For imports of TensorFlow from now on, whoever has them."""
    if "tensorflow.python" not in sys.modules:
        sys.meta_path.insert(0, _TritonFirst())
