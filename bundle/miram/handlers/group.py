"""Handlers with ids of their own, as one entry of a config's list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine


class HandlerGroup:
    """
    Attach several handlers, in order.

    In a config each handler has an id, by which other parts and overlays refer to it. MONAI reads the `_target_` of
    each entry of `train#handlers`, so the list itself cannot hold references; this class holds them.

    Args:
        handlers: Ignite handlers with `attach`; disabled handlers are None and are left out.
    """

    def __init__(self, handlers: Sequence[Any]) -> None:
        self.handlers = [handler for handler in handlers if handler is not None]

    def attach(self, engine: Engine) -> None:
        """Attach them to a trainer or evaluator."""
        for handler in self.handlers:
            handler.attach(engine)
