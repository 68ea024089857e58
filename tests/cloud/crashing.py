"""A user's task that takes the process down that imports it."""

from __future__ import annotations

import os

os.abort()
