"""Live speech to motion: samples go in as they come, and the motion of every block of video frames comes out as soon as it is decided."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.audio.sound import SAMPLE_RATE, SAMPLES_PER_FRAME
from data_tools.errors import InputError
from geneface_jax.data.subject import feature_types_of, require_same_dataset, trained_on
from geneface_jax.inference.person import Person
from geneface_jax.io import checkpoints
from geneface_jax.live.features import BLOCK, HOPS, NAME, WINDOW_SAMPLES, block_features, live_encoder, window_end, window_start
from geneface_jax.models.live_motion import PAST, LiveMotion, empty_past
from geneface_jax.typing import Array, Float, Float32

STAGE = "live"
"""A person's folder of the live network."""

_QUIET_BLOCKS = 12
"""Blocks of silence (1.4 s) that every utterance follows: as long as the network remembers."""


@dataclasses.dataclass(frozen=True, eq=False)
class LiveNetwork:
    """A trained live network with its encoder; shared by all utterances, and free of state.

    Attributes:
      network: with `stream`.
      arrays: all it computes with: the encoder's (`live_features`), "variables", "mean_motion" and "scale".
      start: the network's past after silence.
    """

    network: LiveMotion
    arrays: Mapping[str, Any]
    start: Mapping[str, Any]

    @classmethod
    def load(cls, workdir: Any) -> "LiveNetwork":
        """Reads the work folder of the stage "live"; the newest checkpoint. A few seconds, in which its program is compiled too.

        Raises:
          InputError: no checkpoint, one of another stage, or its delay does not fit `BLOCK`.
        """
        return cls.of(checkpoints.load(workdir), workdir)

    @classmethod
    def of(cls, checkpoint: checkpoints.Checkpoint, workdir: Any) -> "LiveNetwork":
        """As `load`, of a checkpoint that was read from `workdir`."""
        config, state = checkpoint.config, checkpoint.state
        if config.get("stage") != STAGE:
            raise InputError(
                f"{workdir} holds a checkpoint of the stage {config.get('stage')}, not {STAGE}: give the folder of a live network."
            )
        kind = feature_types_of(config.data)
        if kind.audio_model != NAME or config.model.delay % BLOCK:
            raise InputError(
                f"The live network in {workdir} hears {kind.audio_model} features and is {config.model.delay} frames late, but this "
                f"version makes {NAME} features in blocks of {BLOCK} frames: train it again."
            )
        network = LiveMotion(**config.model.to_dict(), stream=True)
        constants = state["constants"]
        arrays = {
            **live_encoder(),
            "variables": jax.device_put({"params": state["params"], "batch_stats": state["batch_stats"]}),
            "mean_motion": jnp.asarray(constants["motion_mean"]),
            "scale": jnp.asarray(constants["motion_std"]),
        }
        past = empty_past(network, (1, HOPS, arrays["matrix"].shape[1]))
        quiet = np.zeros(WINDOW_SAMPLES, np.float32)
        for _ in range(_QUIET_BLOCKS):
            _, past = _step(network, arrays, past, quiet)
        return cls(network, arrays, past)


@functools.partial(jax.jit, static_argnums=0)
def _step(
    network: LiveMotion, arrays: Mapping[str, Any], past: Mapping[str, Any], samples: Float[Array, " N"]
) -> tuple[Float[jax.Array, "T 68 3"], Mapping[str, Any]]:
    """Motion of the block before the one whose window is `samples` (for a delay of one block), and the new past."""
    features = block_features(arrays, samples[None])
    motion, updates = network.apply({**arrays["variables"], PAST: past}, features, mutable=[PAST])
    return (motion[0] * arrays["scale"] + arrays["mean_motion"]).reshape(BLOCK, 68, 3), updates[PAST]


class LiveSpeech:
    """One utterance after the other, each of any length; cheap to make, and not to be shared by threads.

    The motion of a frame depends on the sound up to `DELAY` after the frame's first sample, at most, and not on how it was cut.

    Attributes:
      BLOCK: video frames that are decided at once.
      DELAY: seconds from a sound's arrival to the decision of its frame, without computing: the block, the sound that the network hears
        after it, and the half audio frame by which windows are late: 0.31. The last frame of a block waits two frames less.
    """

    BLOCK = BLOCK
    DELAY = window_end(1) / SAMPLE_RATE
    """Of networks that are one block late, as the configs' are."""

    def __init__(self, network: LiveNetwork):
        self._network = network
        self._late = network.network.delay // BLOCK
        self._begin()

    def _begin(self) -> None:
        self._past = self._network.start
        self._block = self._heard = self._given = 0
        # Samples from the first one that a coming window needs; before the utterance is silence.
        self._samples = np.zeros(-window_start(0), np.float32)

    def push(self, samples: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, "T 68 3"]:
        """Motion, displacements as of a dataset, of the frames that are decided now; T is a multiple of `BLOCK` and may be 0.

        Args:
          samples: the next ones at 16 kHz, any number of them, in about -1..1 and finite.
        """
        self._heard += len(samples)
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        found = []
        while len(self._samples) >= WINDOW_SAMPLES:
            motion, self._past = _step(self._network.network, self._network.arrays, self._past, self._samples[:WINDOW_SAMPLES])
            self._samples = self._samples[BLOCK * SAMPLES_PER_FRAME :]
            self._block += 1
            if self._block > self._late:
                found.append(np.asarray(motion))
        self._given += BLOCK * len(found)
        return np.concatenate(found) if found else np.zeros((0, 68, 3), np.float32)

    def flush(self) -> Float32[np.ndarray, "T 68 3"]:
        """The utterance ends: motion of its last frames, as if silence followed. The next `push` begins a new utterance."""
        frames, given = -(-self._heard // SAMPLES_PER_FRAME), self._given
        if not frames:
            return np.zeros((0, 68, 3), np.float32)
        blocks = -(-frames // BLOCK) + self._late
        rest = self.push(np.zeros(max(window_end(blocks - 1) - self._heard, 0), np.float32))
        self._begin()
        return rest[: frames - given]


def open_live_speech(person: Person) -> Callable[[], LiveSpeech]:
    """Reads a person's live network; what is returned makes an utterance's state.

    Raises:
      InputError: the person has no live network, or it was trained on another dataset.
    """
    folder = person.parts.folder / STAGE
    if not checkpoints.steps(folder):
        raise InputError(
            f"{person.parts.folder} has no live network ({STAGE}/): make it with `geneface fit VIDEO --out {person.parts.folder}`."
        )
    checkpoint = checkpoints.load(folder)
    require_same_dataset(f"the live network in {folder}", trained_on(checkpoint.config), person.subject)
    network = LiveNetwork.of(checkpoint, folder)
    return lambda: LiveSpeech(network)


def predict(network: LiveNetwork, samples: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, "T 68 3"]:
    """Motion of a recording, as the stream gives it, bit for bit; T = N / 640, rounded up."""
    speech = LiveSpeech(network)
    return np.concatenate([speech.push(samples), speech.flush()])
