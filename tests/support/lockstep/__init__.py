"""The engine's swap layer and the model of it, doing the same and compared after each step."""

from __future__ import annotations

from support.lockstep.compare import Lockstep

__all__ = ["Lockstep"]
