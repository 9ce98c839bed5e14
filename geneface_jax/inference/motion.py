"""Speech to landmark motion with the trained networks (VAE and PostNet), and the motion controls applied to it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.landmarks68 import BROWS, EYES, MOUTH
from geneface_jax.data.compatibility import FeatureTypes, feature_types_of
from geneface_jax.data.corpus import MOTION_DIM
from geneface_jax.data.speech_batches import model_audio, silence
from geneface_jax.data.subject import Subject
from geneface_jax.inference import motion_filters
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.poses import mirrored_indices
from geneface_jax.io import checkpoints
from geneface_jax.models.audio2motion import TYPICAL_AMPLITUDE, Audio2Motion
from geneface_jax.models.postnet import CNNPostNet
from geneface_jax.models.speech_to_motion import generate, typical_voice

# ----------------------------------------------------------------------------------------------------
# Speech -> motion with the trained networks.

STAGES = ("postnet", "vae")


@dataclasses.dataclass(frozen=True)
class AudioToMotion:
    """A person's speech-to-motion networks, or the corpus VAE alone.

    Attributes:
      vae, vae_variables: the VAE and its {"params", "batch_stats"}.
      postnet: (module, variables), or None.
      motion_mean, motion_std: [204]; motion = network * std + mean.
      kind: of the landmarks and audio features the networks know.
      amplitudes: `mouth_amp` and `eye_amp` that are typical of the faces a pitch-aware VAE was trained on; empty for others.
      expression: (basis [E, 68, 3], offset [68, 3]) that makes landmarks of a VAE's coefficients of a face model; None where it makes
        landmarks itself.
    """

    vae: Audio2Motion
    vae_variables: dict[str, Any]
    postnet: tuple[CNNPostNet, dict[str, Any]] | None
    motion_mean: np.ndarray
    motion_std: np.ndarray
    kind: FeatureTypes
    amplitudes: dict[str, float] = dataclasses.field(default_factory=dict)
    expression: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def follows_mouth_amp(self) -> bool:
        """Whether the VAE itself is told how wide the mouth moves; if not, its motion can be scaled afterwards."""
        return bool(self.vae.pitch and self.vae.mouth_amp)

    @classmethod
    def load(cls, postnet_dir: str | os.PathLike[str], *, step: int | None = None, stage: str = "postnet") -> AudioToMotion:
        """Reads a person's work folder `SUBJECT/postnet`.

        Args:
          postnet_dir: the work folder.
          step: which checkpoint; None is the one that `geneface select-postnet` chose, or else the newest.
          stage: "postnet", or "vae" to leave PostNet out and hear the VAE that PostNet was trained with.

        Raises:
          InputError: no such checkpoint, a work folder of another stage, or a VAE whose motion is no landmarks.
        """
        if stage not in STAGES:
            raise InputError(f"the motion stage is {stage!r}; choose {' or '.join(STAGES)}.")
        checkpoint = _load(postnet_dir, checkpoints.read_selected_step(postnet_dir) if step is None else step, "postnet")
        state, config = checkpoint.state, checkpoint.config

        def variables(name: str) -> dict[str, Any]:
            return {"params": state["params"][name], "batch_stats": state["batch_stats"][name]}

        postnet = (CNNPostNet(config.model.base, config.model.zero_init), variables("postnet")) if stage == "postnet" else None
        vae = _vae(config.audio2motion.model, postnet_dir)
        return cls(vae, variables("audio2motion"), postnet, **_constants(state), kind=feature_types_of(config.data))

    @classmethod
    def load_corpus_model(
        cls,
        audio2motion_dir: str | os.PathLike[str],
        *,
        step: int | None = None,
        expression: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> AudioToMotion:
        """Reads the work folder of the bare VAE; its motion has the mean face of the corpus.

        Args:
          audio2motion_dir: the work folder.
          step: which checkpoint; None is the newest.
          expression: a person's basis and offset (`Subject.expression_basis`, `expression_offset`), for a VAE of coefficients.

        Raises:
          InputError: no such checkpoint, a work folder of another stage, or a VAE whose motion is no landmarks.
        """
        checkpoint = _load(audio2motion_dir, step, "audio2motion")
        state = checkpoint.state
        variables = {"params": state["params"], "batch_stats": state["batch_stats"]}
        size = MOTION_DIM if expression is None else len(expression[0])
        vae = _vae(checkpoint.config.model, audio2motion_dir, {MOTION_DIM, size})
        needed = None if vae.motion_dim == MOTION_DIM else expression
        return cls(vae, variables, None, **_constants(state), kind=feature_types_of(checkpoint.config.data), expression=needed)

    def predict(
        self,
        audio_features: np.ndarray,
        f0: np.ndarray,
        *,
        temperature: float = 0.2,
        seed: int = 0,
        mouth_amp: float = TYPICAL_AMPLITUDE,
        start: int = 0,
    ) -> np.ndarray:
        """Motion for a recording.

        Args:
          audio_features: [A, 80] log10 mel of the whole recording, A = 2T. f0: [A] Hz, 0 = unvoiced.
          temperature: 0 (the most likely motion) to 1 (a draw from the prior).
          seed: of the prior noise; the same seed gives the same motion.
          mouth_amp: how wide a VAE that follows it (`follows_mouth_amp`) moves the mouth, 0 to 1; 0.4 is as its training faces did.
          start: video frame, a multiple of 4, that these features begin with in a longer recording; the prior's noise is that moment's.

        Returns:
          [T, 204] float32.

        Raises:
          InputError: no audio, an odd number of audio frames, or features and f0 of different lengths.
        """
        if len(audio_features) < 2 or len(audio_features) % 2:
            raise InputError(f"there are {len(audio_features)} audio frames; give two for every video frame (25 frames a second).")
        audio = model_audio(audio_features, f0)
        voice = typical_voice(f0[None], self.amplitudes, mouth_amp)
        quiet = silence(1, audio.shape[-1])[0]
        motion = generate(self.vae, self.vae_variables, audio, quiet, jax.random.key(seed), temperature, self.postnet, voice, start)
        motion = (motion * self.motion_std + self.motion_mean).astype(np.float32)
        if self.expression is None:
            return motion
        basis, offset = self.expression
        return motion @ basis.reshape(len(basis), -1) + offset.reshape(-1)


def _load(workdir: str | os.PathLike[str], step: int | None, stage: str) -> checkpoints.Checkpoint:
    checkpoint = checkpoints.load(workdir, step)
    if checkpoint.config.get("stage") != stage:
        raise InputError(
            f"{workdir} holds a checkpoint of the stage {checkpoint.config.get('stage')}, not {stage}; give the {stage} folder."
        )
    return checkpoint


def _vae(model: ConfigDict, workdir: str | os.PathLike[str], drawable: Collection[int] = (MOTION_DIM,)) -> Audio2Motion:
    vae = Audio2Motion(**model.to_dict())
    if vae.motion_dim not in drawable:
        raise InputError(
            f"the VAE in {workdir} makes {vae.motion_dim} coefficients of the Basel face model, which can't be drawn here, not landmarks: "
            "take a VAE of landmarks, such as the one of configs/audio2motion_pitch.py, or a person imported from GeneFace++."
        )
    return vae


def _constants(state: dict[str, Any]) -> dict[str, Any]:
    constants = state["constants"]
    amplitudes = {name: float(constants[name]) for name in ("mouth_amp", "eye_amp") if name in constants}
    return {**{name: np.asarray(constants[name]) for name in ("motion_mean", "motion_std")}, "amplitudes": amplitudes}


# ----------------------------------------------------------------------------------------------------
# The motion controls in the order in which they act.
#
# GeneFace++ goes: prediction (temperature, mouth amplitude), LLE, blink, clamp. GeneFace's vanilla NeRF: clamp, LLE, blink, shut mouth in
# silence, smoothing; its RAD-NeRF: clamp, smoothing. Here: mouth amplitude, LLE, clamp, shut mouth in silence, smoothing, blink. The
# blink comes last, so that neither clamp nor smoothing weakens it: GeneFace++ clamps after it, and so never shuts the eyes of a person
# who blinked little in training.

OPEN_QUANTILE, CLOSED_QUANTILE = 0.75, 0.03
"""Of the training video's eye openness: eyes that are open as usual (the maximum is surprise), and shut (GeneFace++ takes 3 % too)."""

LLE_EYES = (*range(BROWS.start, BROWS.stop), *range(EYES.start, EYES.stop))
LLE_MOUTH = tuple(range(MOUTH.start, MOUTH.stop))


def shape_motion(
    motion: np.ndarray, subject: Subject, controls: Controls, loudness: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Applies the motion controls in order: mouth amplitude, LLE projection, clamp, shut mouth in silence, smoothing, and the eyes last.

    Args:
      motion: [T, 204] as predicted, not normalised.
      subject: gives the statistics, the database and the blinks; only its training frames are looked at.
      controls: see `Controls`.
      loudness: [T] dB of the speech (`silence.loudness`); without it no mouth is shut in silence.

    Returns:
      motion [T, 68, 3] float32 and eye openness [T] float32.
    """
    n, train = len(motion), slice(0, subject.n_train)
    own = subject.motion[train].reshape(-1, 204)
    motion = np.asarray(motion, np.float32).reshape(n, 204)
    motion = motion_filters.mouth_amplitude(motion, subject.motion_mean, controls.mouth_amp)
    motion = motion_filters.lle_project(motion, own, controls.lle_k, controls.lle)
    motion = motion_filters.lle_project_points(motion, own, LLE_MOUTH, controls.lle_k, controls.lle_mouth)
    motion = motion_filters.lle_project_points(motion, own, LLE_EYES, controls.lle_k, controls.lle_eyes)
    motion = motion_filters.clamp(motion, subject.motion_mean, subject.motion_std, controls.clamp)
    if loudness is not None and controls.close_mouth > 0:
        weight = controls.close_mouth * motion_filters.silence_weight(loudness, controls.silence_db)
        motion = motion_filters.close_mouth_in_silence(motion, weight, motion_filters.most_closed_mouth(own, subject.mean_face))
    motion = motion_filters.smooth_exponential(motion, controls.smooth)
    return with_eyes(motion.reshape(n, 68, 3), subject, controls)


def with_eyes(motion: np.ndarray, subject: Subject, controls: Controls, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Blinks, in the landmarks and as the eye openness that the renderer is told.

    Args:
      motion: [T, 68, 3]; changed in place with `blink_mode="video"`.
      subject, controls: as `shape_motion`.
      start: frame of the whole video that the motion begins with; blinks go by the whole video's clock.

    Returns:
      motion [T, 68, 3] and eye openness [T] float32.
    """
    n = len(motion)
    opened, closed = np.quantile(subject.eye_openness[: subject.n_train], [OPEN_QUANTILE, CLOSED_QUANTILE])
    if controls.blink_mode == "video":
        source = mirrored_indices(subject.n_train, start + n)[start:]
        motion[:, EYES] = subject.motion[source][:, EYES]
        return motion, subject.eye_openness[source].astype(np.float32)
    if controls.blink_mode == "period":
        envelope = motion_filters.blink_envelope(start + n, controls.blink_period)[start:]
        motion, openness = motion_filters.inject_blinks(
            motion.reshape(n, 204),
            float(opened),
            float(closed),
            controls.blink_period,
            mean_face=subject.mean_face,
            envelope=envelope,
        )
        return motion.reshape(n, 68, 3), openness
    return motion, np.full(n, opened, np.float32)
