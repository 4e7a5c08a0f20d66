"""Hands-on labs for infrastructure engineers: real systems, really broken, graded by behaviour."""

from __future__ import annotations

__version__ = "0.1.0"
