"""Audio augmentation: frequency warp, strength, independence of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.data.speech_batches import SILENCE, model_audio
from geneface_jax.io import configs
from geneface_jax.training.speech_augment import augment, augment_batch, augment_features, warp_frequency
from tests.synthetic_corpus import speech_and_motion

STRENGTH = configs.from_file("audio2motion:demo").data.augment


@pytest.fixture(scope="module")
def audio():
    mel, f0, _ = speech_and_motion(np.random.default_rng(0), 40)
    return jnp.asarray(model_audio(mel, f0))


def test_warp_moves_a_formant_by_its_factor():
    mel = jnp.zeros((1, 80)).at[0, 40].set(1.0)
    np.testing.assert_allclose(warp_frequency(mel, jnp.float32(1.0)), mel, atol=1e-4)
    peaks = [int(jnp.argmax(warp_frequency(mel, jnp.float32(factor))[0])) for factor in (0.85, 1.15)]
    assert peaks[0] < 40 < peaks[1]


def test_augmentation_keeps_the_shape_of_speech_and_is_off_at_zero(audio):
    none = {name: 0 for name in STRENGTH} | {"noise": -99.0}
    np.testing.assert_allclose(augment(jax.random.key(0), audio, none), audio, atol=2e-3)
    changed = jnp.stack([augment(jax.random.key(seed), audio, STRENGTH) for seed in range(4)])
    assert np.abs(changed - audio).mean() > 0.05 and np.abs(changed[0] - changed[1]).mean() > 0.05
    assert float(changed[..., :80].min()) >= SILENCE - 1e-4 and np.isfinite(changed).all()
    loudness = [np.corrcoef(x[:, :80].mean(-1), audio[:, :80].mean(-1))[0, 1] for x in np.asarray(changed)]
    assert min(loudness) > 0.6
    assert set(np.unique(changed[..., 81])) <= {0.0, 1.0}


def test_augmentation_of_an_item_depends_on_its_number_alone(audio):
    batch = jnp.stack([audio, audio, audio])
    whole = augment_batch(jax.random.key(0), jnp.arange(3), batch, STRENGTH)
    np.testing.assert_allclose(augment_batch(jax.random.key(0), jnp.array([2]), batch[:1], STRENGTH)[0], whole[2], atol=1e-5)


def test_features_of_a_speech_network_get_noise_in_proportion_to_their_spread():
    features = jax.random.normal(jax.random.key(1), (2000, 8)) * jnp.array([0.1] * 4 + [10.0] * 4) + 3.0
    strength = {"feature_noise": 0.5, "time_mask": 0}
    changed = np.stack([augment_features(jax.random.key(seed), features, strength) - features for seed in range(40)])
    spread = changed.reshape(-1, 8).std(0) / np.asarray(features).std(0)
    assert np.all((0.2 < spread) & (spread < 0.8))
    assert np.abs(changed).max(axis=(1, 2)).min() < 0.3 * np.abs(changed).max()  # windows differ in how much they get
    np.testing.assert_array_equal(augment_features(jax.random.key(0), features, {"time_mask": 0}), features)
    masked = [augment_features(jax.random.key(seed), features, {"time_mask": 50}) for seed in range(20)]
    rows = [np.any(np.asarray(one != features), axis=1).sum() for one in masked]
    assert 0 in rows and 1 <= max(rows) <= 50


def test_channels_of_a_speech_network_are_left_out_of_whole_windows():
    features, strength = jnp.ones((50, 400)), {"channel_mask": 0.6, "time_mask": 0}
    changed = np.stack([augment_features(jax.random.key(seed), features, strength) for seed in range(40)])
    np.testing.assert_array_equal(changed, changed[:, :1].repeat(50, axis=1))
    silent = np.mean(changed[:, 0] == 0.0, axis=1)
    assert silent.min() < 0.1 and 0.4 < silent.max() < 0.7
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), 1.0, atol=0.15)
