"""HuBERT features of recordings: GeneFace's normalization, chunks and lengths, and two frames for every video frame."""

import jax
import numpy as np
import pytest
from hubert_folder import recorded

from data_tools.errors import InputError
from geneface_jax.convert import pretrained
from geneface_jax.convert.pretrained import (
    convert_hubert,
    extract,
    extract_for_frames,
    hubert_from_config,
    normalize_sound,
    weights_fingerprint,
)


@pytest.fixture(scope="module")
def network():
    record = recorded("large")
    return hubert_from_config(record.config), convert_hubert(record.weights)


def sound(n, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n) + 0.02).astype(np.float32)


def as_the_original_does(network, samples, frames):
    """GeneFace's loop over chunks (of 1000 frames there), on the whole processor output."""
    kernel, stride = 400, 320
    values = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    clip = stride * frames
    count = len(values) // clip
    parts = [values[clip * i : clip * i + clip - stride + kernel] for i in range(count)]
    rest = values[clip * count :]
    parts += [rest] if len(rest) >= kernel else []
    apply = jax.jit(network[0].apply)
    return np.concatenate([apply(network[1], part[None].astype(np.float32))[0] for part in parts])


@pytest.mark.parametrize("variant", ["large", "base"])
def test_sound_is_normalized_as_transformers_does(variant):
    record = recorded(variant)
    np.testing.assert_allclose(normalize_sound(record.raw), record.samples, atol=1e-5)
    np.testing.assert_allclose(
        extract(hubert_from_config(record.config), convert_hubert(record.weights), record.raw), record.hidden, atol=5e-5
    )


@pytest.mark.parametrize("n", [400, 5000, 9600, 9990, 12_000])
def test_chunks_are_the_originals(network, n, monkeypatch):
    assert pretrained.CHUNK == 1000
    monkeypatch.setattr(pretrained, "CHUNK", 15)
    monkeypatch.setattr(pretrained, "BUCKET", 4)
    samples = sound(n)
    features = extract(*network, samples)
    expected = as_the_original_does(network, samples, 15)
    assert features.shape == ((n - 80) // 320, 32) == expected.shape
    np.testing.assert_allclose(features, expected, atol=5e-5)


def test_lengths_follow_the_rule_for_every_rest(network, monkeypatch):
    monkeypatch.setattr(pretrained, "CHUNK", 4)
    monkeypatch.setattr(pretrained, "_chunk", lambda m, v, s, step, field: np.zeros(((len(s) - field) // step + 1, 1), np.float32))
    for n in range(400, 6000, 7):
        assert len(extract(*network, sound(n))) == (n - 80) // 320
    assert len(extract(*network, sound(399))) == 0


def test_of_several_channels_the_first_is_heard_and_loudness_is_not(network):
    left, right = sound(4000), sound(4000, seed=1)
    features = extract(*network, left)
    np.testing.assert_array_equal(extract(*network, np.stack([left, right], axis=1)), features)
    np.testing.assert_allclose(extract(*network, 3.0 * left - 0.1), features, atol=2e-3)


def test_every_video_frame_has_two(network):
    samples = sound(640 * 20)
    features = extract_for_frames(*network, samples, 20)
    assert features.shape == (40, 32) and features.dtype == np.float32
    np.testing.assert_allclose(features[:39], extract(*network, samples), atol=1e-6)
    np.testing.assert_array_equal(features[39], features[38])
    # A recording that is longer is cut, a shorter one is followed by silence.
    np.testing.assert_array_equal(extract_for_frames(*network, np.concatenate([samples, sound(500)]), 20), features)
    shorter = extract_for_frames(*network, samples[:-300], 20)
    np.testing.assert_array_equal(shorter, extract_for_frames(*network, np.pad(samples[:-300], (0, 300)), 20))
    assert extract_for_frames(*network, samples, 1).shape == (2, 32)
    with pytest.raises(InputError, match="one video frame"):
        extract_for_frames(*network, samples, 0)


def test_the_fingerprint_tells_weights_apart_and_ignores_their_file(network):
    variables = network[1]
    digest = weights_fingerprint(variables)
    assert len(digest) == 16 and digest == weights_fingerprint(jax.device_put(variables))
    changed = jax.tree.map(np.array, variables)
    changed["params"]["norm"]["bias"][0] += 1e-3
    assert weights_fingerprint(changed) != digest
