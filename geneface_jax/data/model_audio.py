"""What the speech networks hear: one normalisation of audio features, the same in training and in inference."""

from __future__ import annotations

import numpy as np

from data_tools.errors import InputError

N_MELS = 80
"""Channels of `mel_f0` features. Features of any other width are a speech network's own (HuBERT's 1024) and are taken as they come."""

MODEL_CHANNELS = N_MELS + 2

# Normalised mel. A clip's level is the log10 magnitude that its speech frames reach; below it the voice has about 2.5 decades (50 dB)
# before any real recording is only noise, so everything deeper is cut to one value: digital silence and a quiet room then look alike.
LEVEL_PERCENTILE = 90.0
LOWEST_LEVEL = -3.0
DEPTH = 2.5
HEADROOM = 1.5
MEL_OFFSET = 1.25
MEL_SCALE = 0.75

# f0 in octaves around the clip's own median, so that a deep voice and a high one say a sentence alike; four octaves' worth of a unit.
F0_PER_OCTAVE = 2.0
F0_LIMIT = 1.5

SILENCE = (-DEPTH + MEL_OFFSET) / MEL_SCALE
"""Value of a normalised mel band in silence."""


def clip_level(audio_features: np.ndarray) -> float:
    """Level of a clip [A, 80] of log10 mel: the 90th percentile over frames of the frame's mean over bands.

    At least -3 (a whisper 60 dB below full scale), so that a recording without speech is not blown up into speech.
    """
    if len(audio_features) == 0:
        return LOWEST_LEVEL
    return max(float(np.percentile(audio_features.mean(axis=-1), LEVEL_PERCENTILE)), LOWEST_LEVEL)


def model_audio(audio_features: np.ndarray, f0: np.ndarray) -> np.ndarray:
    """Features of whole clips -> the networks' audio input.

    Normalised per clip, because loudness, microphone and the speaker's pitch range tell nothing about the mouth: mel relative to the
    clip's level, cut to 50 dB of depth and brought to about -1.7 (silence) .. 2; f0 in octaves around the clip's median.

    HuBERT features pass through unchanged, without f0: such a network was trained to be deaf to microphone and pitch.

    Args:
      audio_features: [..., A, 80] log10 mel, or [..., A, C] of a speech network; give whole clips, not windows, as the level is the clip's.
      f0: [..., A] in Hz, 0 = unvoiced.

    Returns:
      [..., A, 82] float32: 80 mel bands, f0 (0 where unvoiced), voiced (0 or 1); or [..., A, C] as it came.

    Raises:
      InputError: the two have different lengths.
    """
    audio_features, f0 = np.asarray(audio_features, np.float32), np.asarray(f0, np.float32)
    if audio_features.shape[:-1] != f0.shape:
        raise InputError(f"audio features {audio_features.shape} and f0 {f0.shape} differ in length; compute both from one recording.")
    if audio_features.shape[-1] != N_MELS:
        return audio_features
    if audio_features.ndim > 2:
        flat = [model_audio(*pair) for pair in zip(audio_features, f0, strict=True)]
        return np.stack(flat)
    mel = np.clip(audio_features - clip_level(audio_features), -DEPTH, HEADROOM)
    voiced = f0 > 0
    pitch = np.zeros_like(f0)
    if voiced.any():
        octaves = np.log2(np.where(voiced, f0, 1.0))
        pitch = np.where(voiced, np.clip(F0_PER_OCTAVE * (octaves - np.median(octaves[voiced])), -F0_LIMIT, F0_LIMIT), 0.0)
    extra = np.stack([pitch, voiced], axis=-1)
    return np.concatenate([(mel + MEL_OFFSET) / MEL_SCALE, extra], axis=-1).astype(np.float32)


def silence(frames: int, channels: int) -> np.ndarray:
    """[frames, channels] of model audio that nobody speaks in, to pad with: silent mel, unvoiced; for HuBERT zeros, as the original."""
    if channels != MODEL_CHANNELS:
        return np.zeros((frames, channels), np.float32)
    padding = np.full((frames, channels), SILENCE, np.float32)
    padding[:, -2:] = 0.0
    return padding
