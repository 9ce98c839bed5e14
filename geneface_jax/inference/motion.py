"""Speech to landmark motion with the trained networks, the motion controls, and the head pose of every output frame."""

import dataclasses
import os
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_tools.errors import InputError
from data_tools.landmarks68 import BROWS, EYES, MOUTH
from geneface_jax.data.corpus import MOTION_DIM
from geneface_jax.data.speech_batches import model_audio, silence
from geneface_jax.data.subject import FeatureTypes, Subject, feature_types_of, trained_on
from geneface_jax.inference import motion_filters
from geneface_jax.inference.blinks import blink_envelope, inject_blinks
from geneface_jax.inference.controls import Controls, frame_range
from geneface_jax.io import checkpoints
from geneface_jax.models.audio2motion import TYPICAL_AMPLITUDE, Audio2Motion, generate, typical_voice
from geneface_jax.models.postnet import CNNPostNet
from geneface_jax.typing import Float, Float32, Int

# -------- Head pose path of the output: the training video's poses played back and forth, smoothing, camera orbit


def mirrored_indices(length: int, n: int) -> Int[np.ndarray, " n"]:
    """Indices that run 0 .. length-1 (length >= 1) and back repeatedly; the turning frames appear once, so that no frame is repeated."""
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if length == 1:
        return np.zeros(n, np.int64)
    period = 2 * length - 2
    phase = np.arange(n) % period
    return np.minimum(phase, period - phase)


def track_indices(cameras: Float[np.ndarray, "T 4 4"], n: int, mode: str) -> Int[np.ndarray, " n"]:
    """The source frame whose pose each output frame takes.

    Args:
      cameras: camera to world.
      n: number of output frames.
      mode: "video" (all T frames, back and forth), "still" (the frame nearest to the mean pose) or "A-B" (frames A .. B-1, back and forth).

    Raises:
      InputError: the range lies outside the video.
    """
    if mode == "video":
        return mirrored_indices(len(cameras), n)
    if mode == "still":
        return np.full(n, _most_typical(cameras), np.int64)
    start, stop = frame_range(mode)
    if stop > len(cameras):
        raise InputError(f"--pose is {mode}, but the training video has {len(cameras)} frames: give a range inside 0-{len(cameras)}.")
    return start + mirrored_indices(stop - start, n)


def smooth_cameras(cameras: Float[np.ndarray, "T 4 4"], window: int = 7) -> Float[np.ndarray, "T 4 4"]:
    """Moving average of a camera path: mean translation and chordal mean rotation over an odd number of frames; 1 changes nothing.

    The chordal mean is the rotation nearest (in the Frobenius norm) to the average of the window's matrices, as in
    `scipy.spatial.transform.Rotation.mean`, here for all windows at once. The path's end poses are repeated; the dtype is kept.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be an odd number of frames, got {window}")
    if window == 1 or len(cameras) == 0:
        return cameras.copy()
    padded = np.pad(cameras.astype(np.float64), ((window // 2, window // 2), (0, 0), (0, 0)), mode="edge")
    mean = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0).mean(-1)
    u, _, vt = np.linalg.svd(mean[:, :3, :3])
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # excludes reflections
    mean[:, :3, :3] = u @ vt
    return mean.astype(cameras.dtype)


def pose_track(cameras: Float[np.ndarray, "T 4 4"], n: int, mode: str = "video", smooth: int = 7) -> Float[np.ndarray, "n 4 4"]:
    """Camera path of `n` output frames (may exceed T): the poses of `track_indices`, smoothed over `smooth` frames (odd; 1 = none)."""
    return smooth_cameras(cameras[track_indices(cameras, n, mode)], smooth)


def orbit(cameras: Float[np.ndarray, "n 4 4"], degrees: float) -> Float[np.ndarray, "n 4 4"]:
    """Rotates the camera around the head by one period of a sine over the clip, up to `degrees` (>= 0) to each side.

    The axis is y of the canonical head frame, through its origin between the ears, so the head keeps its place in the picture. The left
    cheek comes into view first (the camera moves to the picture's right). The first frame is unchanged, and the dtype is kept.
    """
    angle = np.radians(degrees) * np.sin(2.0 * np.pi * np.arange(len(cameras)) / max(len(cameras), 1))
    swing = np.zeros((len(cameras), 4, 4))
    swing[:, 0, 0] = swing[:, 2, 2] = np.cos(angle)
    swing[:, 0, 2], swing[:, 2, 0] = np.sin(angle), -np.sin(angle)
    swing[:, 1, 1] = swing[:, 3, 3] = 1.0
    return (swing @ cameras.astype(np.float64)).astype(cameras.dtype)


def _most_typical(cameras: Float[np.ndarray, "T 4 4"]) -> int:
    flat = cameras[:, :3].reshape(len(cameras), 12).astype(np.float64)
    spread = flat.std(0) + 1e-9  # makes rotation entries and meters comparable
    return int(np.argmin((((flat - flat.mean(0)) / spread) ** 2).sum(1)))


# -------- Speech to motion with the trained networks

STAGES = ("postnet", "vae")


@dataclasses.dataclass(frozen=True)
class AudioToMotion:
    """A person's speech-to-motion networks, or the corpus VAE alone.

    Attributes:
      vae, vae_variables: the VAE and its {"params", "batch_stats"}.
      postnet: (module, variables), or None.
      motion_mean, motion_std: motion = network * std + mean.
      kind: landmark and audio feature types of the networks.
      amplitudes: typical `mouth_amp` and `eye_amp` of the training faces of a pitch-aware VAE; empty for others.
      expression: (basis, offset) that turn a VAE's E face model coefficients into landmarks; None if it predicts landmarks.
      trained_on: fingerprint of the person's dataset; "" if it was not recorded.
    """

    vae: Audio2Motion
    vae_variables: dict[str, Any]
    postnet: tuple[CNNPostNet, dict[str, Any]] | None
    motion_mean: Float[np.ndarray, " D"]
    motion_std: Float[np.ndarray, " D"]
    kind: FeatureTypes
    amplitudes: dict[str, float] = dataclasses.field(default_factory=dict)
    expression: tuple[Float[np.ndarray, "E 68 3"], Float[np.ndarray, "68 3"]] | None = None
    trained_on: str = ""

    @property
    def follows_mouth_amp(self) -> bool:
        """Whether the VAE is conditioned on the mouth amplitude; if not, its motion can be scaled afterwards."""
        return bool(self.vae.mouth_amp)

    @classmethod
    def load(cls, postnet_dir: str | os.PathLike[str], *, step: int | None = None, stage: str = "postnet") -> "AudioToMotion":
        """Reads a person's work folder `SUBJECT/postnet`.

        Args:
          step: checkpoint; None is the one that `geneface select-postnet` chose, else the newest.
          stage: "postnet", or "vae" to skip PostNet and use only the VAE it was trained with.

        Raises:
          InputError: no such checkpoint, a work folder of another stage, or a VAE that does not predict landmarks.
        """
        if stage not in STAGES:
            raise InputError(f"The motion stage is {stage!r}: choose {' or '.join(STAGES)}.")
        checkpoint = _load(postnet_dir, checkpoints.read_selected_step(postnet_dir) if step is None else step, "postnet")
        state, config = checkpoint.state, checkpoint.config

        def variables(name: str) -> dict[str, Any]:
            return {"params": state["params"][name], "batch_stats": state["batch_stats"][name]}

        postnet = (CNNPostNet(config.model.base, config.model.zero_init), variables("postnet")) if stage == "postnet" else None
        vae = _vae(config.audio2motion.model, postnet_dir)
        features, dataset = feature_types_of(config.data), trained_on(config)
        return cls(vae, variables("audio2motion"), postnet, **_constants(state), kind=features, trained_on=dataset)

    @classmethod
    def load_corpus_model(
        cls,
        audio2motion_dir: str | os.PathLike[str],
        *,
        step: int | None = None,
        expression: tuple[Float[np.ndarray, "E 68 3"], Float[np.ndarray, "68 3"]] | None = None,
    ) -> "AudioToMotion":
        """Reads the work folder of the VAE alone (the newest checkpoint if `step` is None); its motion has the mean face of the corpus.

        `expression` is a person's basis and offset (`Subject.expression_basis`, `expression_offset`), for a VAE of coefficients.

        Raises:
          InputError: no such checkpoint, a work folder of another stage, or a VAE that predicts neither landmarks nor these coefficients.
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
        audio_features: Float[np.ndarray, "A C"],
        f0: Float[np.ndarray, " A"],
        *,
        temperature: float = 0.2,
        seed: int = 0,
        mouth_amp: float = TYPICAL_AMPLITUDE,
        start: int = 0,
    ) -> Float32[np.ndarray, "T D"]:
        """Motion for a recording of T video frames, A = 2T audio frames.

        Args:
          audio_features: of the whole recording, for `mel_f0` log10 mel with 80 channels.
          f0: Hz, 0 = unvoiced.
          temperature: 0 (the most likely motion) to 1 (a sample from the prior).
          seed: of the prior noise; the same seed gives the same motion.
          mouth_amp: mouth amplitude 0 to 1 of a VAE with `follows_mouth_amp`; 0.4 is typical of its training faces.
          start: position in a longer recording at which these features begin, in video frames, a multiple of 4; selects the prior's noise.

        Raises:
          InputError: no audio, or an odd number of audio frames.
        """
        if len(audio_features) < 2 or len(audio_features) % 2:
            raise InputError(f"There are {len(audio_features)} audio frames: give two for every video frame (25 frames a second).")
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
            f"{workdir} holds a checkpoint of the stage {checkpoint.config.get('stage')}, not {stage}: give the {stage} folder."
        )
    return checkpoint


def _vae(model: ConfigDict, workdir: str | os.PathLike[str], motion_dims: Collection[int] = (MOTION_DIM,)) -> Audio2Motion:
    vae = Audio2Motion(**model.to_dict())
    if vae.motion_dim not in motion_dims:
        raise InputError(
            f"The VAE in {workdir} predicts {vae.motion_dim} coefficients of the Basel face model instead of landmarks: "
            "use a VAE of landmarks, such as the one of configs/audio2motion_pitch.py, or a person imported from GeneFace++."
        )
    return vae


def _constants(state: dict[str, Any]) -> dict[str, Any]:
    constants = state["constants"]
    amplitudes = {name: float(constants[name]) for name in ("mouth_amp", "eye_amp") if name in constants}
    return {**{name: np.asarray(constants[name]) for name in ("motion_mean", "motion_std")}, "amplitudes": amplitudes}


# -------- The motion controls, in order of application
#
# GeneFace++: prediction (temperature, mouth amplitude), LLE, blink, clamp. GeneFace's vanilla NeRF: clamp, LLE, blink, mouth closing in
# silence, smoothing; its RAD-NeRF: clamp, smoothing. Here the blink comes last, so that neither clamp nor smoothing weakens it: GeneFace++
# clamps after the blink, and so never closes the eyes of a person who blinked rarely in training.

OPEN_QUANTILE, CLOSED_QUANTILE = 0.75, 0.03
"""Of the training video's eye openness: normally open eyes (the maximum is surprise), and closed eyes (3 % as in GeneFace++)."""

LLE_EYES = (*range(BROWS.start, BROWS.stop), *range(EYES.start, EYES.stop))
LLE_MOUTH = tuple(range(MOUTH.start, MOUTH.stop))


def shape_motion(
    motion: Float[np.ndarray, "T 204"], subject: Subject, controls: Controls, loudness: Float[np.ndarray, " T"] | None = None
) -> tuple[Float32[np.ndarray, "T 68 3"], Float32[np.ndarray, " T"]]:
    """Applies the motion controls in order: mouth amplitude, LLE projection, clamp, mouth closing in silence, smoothing, and the eyes last.

    Args:
      motion: as predicted, not normalized.
      subject: provides statistics, LLE database and blinks, from its training frames only.
      controls: see `Controls`.
      loudness: of the speech in dB (`motion_filters.loudness`); without it the mouth is not closed in silence.

    Returns:
      motion and eye openness.
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


def with_eyes(
    motion: Float32[np.ndarray, "T 68 3"], subject: Subject, controls: Controls, start: int = 0
) -> tuple[Float32[np.ndarray, "T 68 3"], Float32[np.ndarray, " T"]]:
    """Applies the blink control to the landmarks and computes the eye openness, the renderer's input.

    `motion` is changed in place with `blink_mode="video"`. `start` is the frame number in the whole video at which it begins; it sets the
    phase of the blinks. Returns motion and eye openness.
    """
    n = len(motion)
    opened, closed = np.quantile(subject.eye_openness[: subject.n_train], [OPEN_QUANTILE, CLOSED_QUANTILE])
    if controls.blink_mode == "video":
        source = mirrored_indices(subject.n_train, start + n)[start:]
        motion[:, EYES] = subject.motion[source][:, EYES]
        return motion, subject.eye_openness[source].astype(np.float32)
    if controls.blink_mode == "period":
        envelope = blink_envelope(start + n, controls.blink_period)[start:]
        motion, openness = inject_blinks(
            motion.reshape(n, 204),
            float(opened),
            float(closed),
            controls.blink_period,
            mean_face=subject.mean_face,
            envelope=envelope,
        )
        return motion.reshape(n, 68, 3), openness
    return motion, np.full(n, opened, np.float32)
