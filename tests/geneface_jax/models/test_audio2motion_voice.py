"""Voice inputs of the pitch-aware VAE: pitch bins, and that every part of a voice changes the motion."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geneface_jax.models.audio2motion import BUCKET, Audio2Motion, Voice, generate, pitch_bins, typical_voice

SMALL = {"condition": 8, "hidden": 8, "encoder_layers": 1, "decoder_layers": 1, "flow_blocks": 1, "flow_hidden": 8, "flow_layers": 1}
EVERYTHING = {"pitch": 4, "blink": True, "mouth_amp": True, "eye_amp": True}
FRAMES = 8


def voice():
    f0 = jnp.linspace(0.0, 300.0, 2 * FRAMES)[None]
    return Voice(f0, jnp.zeros((1, FRAMES), jnp.int32), jnp.array([0.4]), jnp.array([0.4]))


def network(**changes):
    vae = Audio2Motion(**SMALL, **changes)
    inputs = (jnp.zeros((1, FRAMES, 204)), jnp.ones((1, FRAMES)), jnp.ones((1, 2 * FRAMES, 5)), jnp.zeros((1, FRAMES // 4, 16)))
    return vae, vae.init(jax.random.key(0), *inputs, voice=voice())


def speak(vae, variables, inputs):
    return vae.apply(variables, jnp.ones((1, 2 * FRAMES, 5)), jnp.zeros((1, FRAMES // 4, 16)), inputs, method=Audio2Motion.generate)


def test_pitch_bins_are_equal_steps_of_mel_between_the_ends():
    np.testing.assert_array_equal(pitch_bins(jnp.array([0.0, 10.0, 50.0, 1100.0, 5000.0])), [1, 1, 1, 255, 255])
    hz = jnp.linspace(50.0, 1100.0, 400)
    bins = np.asarray(pitch_bins(hz))
    assert np.all(np.diff(bins) >= 0) and set(bins) == set(range(1, 256))
    # The middle of the mel range is the middle bin: 1127 ln(1 + f / 700) half way between those of 50 and 1100 Hz.
    middle = 700.0 * (np.sqrt((1 + 50 / 700) * (1 + 1100 / 700)) - 1)
    assert pitch_bins(jnp.array(middle)) == 128 and pitch_bins(jnp.array([[200.0]])).shape == (1, 1)


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ({"pitch": 32}, 11_468_396),
        ({"pitch": 128, "condition": 128, "motion_dim": 64, "blink": True, "mouth_amp": True}, 11_864_000),
        ({"pitch": 128, "condition": 128, "motion_dim": 64, **dict.fromkeys(("blink", "mouth_amp", "eye_amp"), True)}, 11_881_000),
    ],
)
def test_reference_sizes_are_the_originals(sizes, parameters):
    """GeneFace's pitch variant to the number; GeneFace++'s are published in thousands."""
    motion = jnp.zeros((1, FRAMES, sizes.get("motion_dim", 204)))
    inputs = (motion, jnp.ones((1, FRAMES)), jnp.zeros((1, 2 * FRAMES, 1024)), jnp.zeros((1, FRAMES // 4, 16)))
    shapes = jax.eval_shape(lambda: Audio2Motion(**sizes).init(jax.random.key(0), *inputs, voice=voice()))
    assert abs(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) - parameters) < (1 if parameters % 1000 else 1000)


def test_every_part_of_a_voice_changes_the_motion():
    vae, variables = network(**EVERYTHING)
    plain = speak(vae, variables, voice())
    changes = {"f0": 2.0 * voice().f0, "blink": voice().blink.at[0, 3].set(1), "mouth_amp": jnp.array([0.9]), "eye_amp": jnp.array([0.9])}
    for name, value in changes.items():
        assert np.abs(speak(vae, variables, dataclasses.replace(voice(), **{name: value})) - plain).max() > 1e-5, name


def test_unused_inputs_change_nothing():
    pitch_only, variables = network(pitch=4, pairing="stack")
    other = dataclasses.replace(voice(), blink=voice().blink + 1, mouth_amp=jnp.array([3.0]), eye_amp=jnp.array([3.0]))
    np.testing.assert_array_equal(speak(pitch_only, variables, voice()), speak(pitch_only, variables, other))
    assert variables["params"]["condition_down"]["kernel"].shape[1:] == (12, 12), "audio and pitch are concatenated"
    plain, variables = network()
    assert "voice_encoder" not in variables["params"]
    np.testing.assert_array_equal(speak(plain, variables, voice()), speak(plain, variables, None))


def test_amplitudes_are_inputs_without_pitch_too():
    vae, variables = network(mouth_amp=True)
    other = dataclasses.replace(voice(), f0=2.0 * voice().f0)
    np.testing.assert_array_equal(speak(vae, variables, voice()), speak(vae, variables, other))
    wide = dataclasses.replace(voice(), mouth_amp=jnp.array([0.9]))
    assert np.abs(speak(vae, variables, wide) - speak(vae, variables, voice())).max() > 1e-5
    with pytest.raises(ValueError, match="needs a voice"):
        speak(vae, variables, None)


def test_a_pitch_aware_network_needs_a_voice():
    vae, variables = network(**EVERYTHING)
    with pytest.raises(ValueError, match="needs a voice"):
        speak(vae, variables, None)


def test_a_typical_voice_never_blinks_and_scales_the_mouth_alone():
    f0 = np.full((1, 12), 120.0)
    known = typical_voice(f0, {"mouth_amp": 0.3, "eye_amp": 0.08}, 0.8)
    assert not known.blink.any() and known.blink.shape == (1, 6)
    np.testing.assert_allclose([known.mouth_amp, known.eye_amp], [[0.6], [0.08]], rtol=1e-6)
    imported = typical_voice(f0, {})
    np.testing.assert_allclose([imported.mouth_amp, imported.eye_amp], [[0.4], [1.0]], rtol=1e-6)


@pytest.mark.parametrize("frames", [3, BUCKET + 5])
def test_generate_takes_any_length(frames):
    vae, variables = network(**EVERYTHING)
    audio = np.random.default_rng(0).normal(size=(2 * frames, 5)).astype(np.float32)
    inputs = typical_voice(np.full((1, 2 * frames), 150.0), {})
    assert generate(vae, variables, audio, np.zeros(5, np.float32), jax.random.key(0), 0.5, voice=inputs).shape == (frames, 204)
