"""A picture of every person, for choosing: its first frame in silence, drawn once."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from data_tools.audio.load import SAMPLE_RATE
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.person import direct, perform
from geneface_jax.studio.context import Context
from geneface_jax.studio.people import Person, thumbnail

SILENCE_SECONDS = 0.4


class Portraits:
    """Portraits, kept in memory by the person's networks."""

    def __init__(self, context: Context):
        self._context, self._lock = context, threading.Lock()
        self._known: dict[Person, np.ndarray] = {}

    def get(self, person: Person) -> np.ndarray:
        """uint8 [192, 192, 3]. Waits for its turn at the desk, since it renders.

        Raises:
          InputError: as `pipeline.open_person`, or too many are waiting.
        """
        with self._lock:
            if person not in self._known:
                self._known[person] = self._draw(person)
            return self._known[person]

    def _draw(self, person: Person) -> np.ndarray:
        desk = self._context.desk
        ticket = desk.enter()
        try:
            for _ in desk.wait(ticket):
                pass
            opened = desk.open(person)
            controls = Controls(pose="still", blink_mode="none", temperature=0.0)
            script = direct(opened, np.zeros(round(SILENCE_SECONDS * SAMPLE_RATE), np.float32), controls)
            with contextlib.closing(perform(opened, script, controls)) as frames:
                return np.asarray(thumbnail(next(frames)))
        finally:
            desk.leave(ticket)
