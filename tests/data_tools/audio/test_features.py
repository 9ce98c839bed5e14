"""mel_f0: two frames per video frame, centered on their hops; f0 of voiced frames only."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from data_tools.audio.sound import HOP, SAMPLE_RATE, features_for_frames, mel_f0, n_frames_of


def voice(hertz: float, seconds: float = 1.0, level: float = 0.2) -> np.ndarray:
    """Ten harmonics falling off like a voice."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 11) if k * hertz < 7500)
    return (level * wave).astype(np.float32)


@pytest.mark.parametrize("n_samples", [0, 1, 639, 640, 641, 16000, 16001])
def test_two_audio_frames_for_every_video_frame(n_samples):
    samples = voice(150.0, 2.0)[:n_samples]
    n_frames = n_frames_of(samples)
    assert n_frames == n_samples // 640
    for wanted in (n_frames, n_frames + 3):
        mel, f0 = features_for_frames(samples, wanted)
        assert mel.shape == (2 * wanted, 80) and f0.shape == (2 * wanted,)
        assert mel.dtype == f0.dtype == np.float32


def test_padding_is_silence():
    mel, f0 = features_for_frames(voice(150.0, 0.4), 20)
    assert np.allclose(mel[24:], -6.0) and np.all(f0[24:] == 0.0)
    assert np.all(mel[2:18].max(axis=1) > -2.0)


@pytest.mark.parametrize("frame", [0, 7, 49])
def test_a_click_in_the_middle_of_a_hop_is_seen_by_that_frame_alone(frame):
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[frame * HOP + HOP // 2] = 1.0
    mel, _ = mel_f0(samples)
    assert np.flatnonzero(mel.mean(axis=1) > -4.0).tolist() == [frame]


def test_shifting_by_a_video_frame_shifts_by_two_rows():
    samples = voice(180.0) * np.hanning(SAMPLE_RATE).astype(np.float32)
    mel, f0 = mel_f0(samples)
    later, later_f0 = mel_f0(np.concatenate([np.zeros(640, np.float32), samples]))
    np.testing.assert_allclose(later[4:], mel[2:], atol=1e-5)
    np.testing.assert_allclose(later_f0[6:-6], f0[4:-6], rtol=1e-4)


def test_mel_is_the_log_magnitude_of_librosas_filters():
    samples = np.random.default_rng(0).normal(0, 0.1, 3200).astype(np.float32)
    mel, _ = mel_f0(samples)
    window = samples[5 * HOP - 96 : 5 * HOP - 96 + 512] * librosa.filters.get_window("hann", 512)
    filters = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=512, n_mels=80, fmin=80, fmax=7600)
    np.testing.assert_allclose(mel[5], np.log10(filters @ np.abs(np.fft.rfft(window))), atol=1e-4)


@pytest.mark.parametrize("hertz", [90.0, 140.0, 250.0, 500.0])
def test_pitch_of_a_voice(hertz):
    _, f0 = mel_f0(voice(hertz))
    inner = f0[3:-3]
    assert np.mean(inner > 0) > 0.95
    assert np.median(inner) == pytest.approx(hertz, rel=0.02)


def test_no_pitch_in_noise_silence_or_far_background():
    noise = np.random.default_rng(1).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    assert np.mean(mel_f0(noise)[1] > 0) < 0.05
    assert np.all(mel_f0(np.zeros(SAMPLE_RATE, np.float32))[1] == 0)
    quiet_after_loud = np.concatenate([voice(200.0), 0.003 * voice(200.0)])
    assert np.all(mel_f0(quiet_after_loud)[1][55:] == 0)
