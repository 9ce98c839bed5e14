"""The motion controls in the order in which they act.

GeneFace++ goes: prediction (temperature, mouth amplitude), LLE, blink, clamp. GeneFace's vanilla NeRF: clamp, LLE, blink, shut mouth in
silence, smoothing; its RAD-NeRF: clamp, smoothing. Here: mouth amplitude, LLE, clamp, shut mouth in silence, smoothing, blink. The blink
comes last, so that neither clamp nor smoothing weakens it: GeneFace++ clamps after it, and so never shuts the eyes of a person who blinked
little in training.
"""

from __future__ import annotations

import numpy as np

from geneface_jax.data.subject import Subject
from geneface_jax.inference import motion_filters, silence
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.poses import mirrored_indices
from geneface_jax.inference.regions import BROWS, EYES, MOUTH

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
        weight = controls.close_mouth * silence.silence_weight(loudness, controls.silence_db)
        motion = silence.close_mouth_in_silence(motion, weight, silence.most_closed_mouth(own, subject.mean_face))
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
