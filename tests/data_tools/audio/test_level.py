import numpy as np
import pytest

from data_tools.audio.level import loudness, measure_level

RATE = 16000


def sine(hertz, seconds=3.0, amplitude=1.0, rate=RATE):
    return amplitude * np.sin(2.0 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_the_standards_calibration_tone(rate):
    """BS.1770: a full-scale 997 Hz sine in one channel reads -3.01 LUFS."""
    assert loudness(sine(997.0, rate=rate), rate) == pytest.approx(-3.01, abs=0.1)


def test_loudness_follows_the_amplitude_and_ignores_pauses():
    tone = sine(997.0)
    assert loudness(0.1 * tone, RATE) == pytest.approx(loudness(tone, RATE) - 20.0, abs=0.01)
    with_pause = np.concatenate([tone, np.zeros(5 * RATE), tone])
    assert loudness(with_pause, RATE) == pytest.approx(loudness(tone, RATE), abs=0.5)
    assert loudness(np.zeros(RATE), RATE) == -np.inf


def test_deep_sound_counts_less_than_speech():
    assert loudness(sine(30.0), RATE) < loudness(sine(1000.0), RATE) - 5.0


def test_clipping_silence_and_noise():
    tone = sine(220.0, 2.0, 0.5)
    level = measure_level(np.concatenate([tone, 1e-4 * tone, tone]), RATE)
    assert level.silent == pytest.approx(1 / 3, abs=0.03)
    assert level.longest_pause == pytest.approx(2.0, abs=0.1)
    assert level.clipped == 0.0 and level.peak == pytest.approx(-6.0, abs=0.1)
    assert level.noise < -80.0
    clipped = measure_level(np.clip(3.0 * sine(220.0), -1.0, 1.0), RATE)
    assert clipped.clipped > 0.3 and clipped.silent == 0.0


def test_a_recording_of_a_few_samples_is_measured_too():
    assert np.isfinite(measure_level(np.full(10, 0.5), RATE).noise)
