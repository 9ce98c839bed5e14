"""Every control has an effect that is measured: here those of a script, and where the others are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_tools.landmarks68 import EYES, MOUTH
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion_filters import loudness, most_closed_mouth, silence_weight
from geneface_jax.inference.person import plan_motion
from tests.tiny_speech import tiny_person, voice_with_pauses

ELSEWHERE = {
    "tests/data_tools/test_encoder.py": ("crf", "preset", "pix_fmt", "bitrate", "maxrate", "bufsize"),
    "tests/geneface_jax/inference/test_person_infer.py": ("bg", "size"),
    "tests/geneface_jax/inference/test_nerf_renderer.py": ("n_samples_per_ray", "n_samples_per_ray_fine"),
    "tests/geneface_jax/inference/test_person_batch.py": ("badge",),
    "tests/geneface_jax/rendering/test_field_frames.py": ("end_threshold",),
    "tests/geneface_jax/inference/test_renderer_rays.py": ("rays",),
    "tests/geneface_jax/inference/test_renderer_precision.py": ("precision",),
}
"""File that measures an effect in pixels, samples or bytes -> the controls it names."""

HERE = (
    *("blink_mode", "blink_period", "lle", "lle_mouth", "lle_eyes", "lle_k", "mouth_amp", "temperature", "clamp", "smooth"),
    *("close_mouth", "silence_db", "seed", "pose", "orbit"),
)


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    """act(**controls): the script of six seconds with pauses; the person blinks now and then."""
    person = tiny_person(tmp_path_factory.mktemp("person"))
    blinking = np.where(np.arange(44) % 11 == 5, 0.02, 0.3).astype(np.float32)
    person = dataclasses.replace(person, subject=dataclasses.replace(person.subject, eye_openness=blinking))
    sound = voice_with_pauses(6.0)

    def acted(**changes):
        # Wide open limits: one control is looked at, not what the others leave of it.
        wide = {"clamp": 10.0, "close_mouth": 0.0, "smooth": 0.0, "blink_mode": "none"}
        return plan_motion(person, sound, Controls(**{**wide, **changes}).validate())

    acted.subject, acted.sound = person.subject, sound
    return acted


def test_no_control_is_left_out():
    named = [*HERE, *(name for names in ELSEWHERE.values() for name in names)]
    assert sorted(named) == sorted(field.name for field in dataclasses.fields(Controls))
    for path, names in ELSEWHERE.items():
        text = Path(path).read_text()
        assert all(name in text or name.replace("_", "-") in text for name in names), path


def rises(values):
    return all(b > a for a, b in zip(values, values[1:], strict=False))


def opening(script):
    """How far the mouth's points move."""
    return float(script.motion[:, MOUTH].std(0).mean())


def test_mouth_opening_rises_with_the_amplitude(act):
    assert rises([opening(act(mouth_amp=amount)) for amount in (0.0, 0.2, 0.4, 0.8, 1.0)])


def test_variety_rises_with_the_temperature_and_the_seed_draws_it(act):
    calm = act(temperature=0.0).predicted
    assert rises([float(np.abs(act(temperature=amount).predicted - calm).mean()) for amount in (0.0, 0.2, 0.6, 1.0)])
    first, again, other = (act(temperature=1.0, seed=seed).motion for seed in (1, 1, 2))
    assert np.array_equal(first, again) and np.abs(first - other).mean() > 1e-3
    assert np.array_equal(act(temperature=0.0, seed=1).motion, act(temperature=0.0, seed=2).motion)


def test_blinks_are_counted(act):
    def blinks(**changes):
        shut = act(**changes).eye_openness < 0.15
        return int((shut[1:] & ~shut[:-1]).sum())

    assert blinks(blink_mode="none") == 0
    assert blinks(blink_mode="period", blink_period=25) == 6 and blinks(blink_mode="period", blink_period=75) == 2
    assert blinks(blink_mode="video") >= 10


def distance(script, database, points=slice(None)):
    """Mean distance of the frames to the nearest frame of the person's video."""
    frames, own = (motion[:, points].reshape(len(motion), -1) for motion in (script.motion, database))
    return float(np.linalg.norm(frames[:, None] - own[None], axis=-1).min(1).mean())


@pytest.mark.parametrize("name, points", [("lle", slice(None)), ("lle_mouth", MOUTH), ("lle_eyes", EYES)])
def test_the_distance_to_the_persons_set_falls_with_lle(act, name, points):
    own = act.subject.motion[: act.subject.n_train]
    found = [distance(act(**{name: amount, "lle_k": 3, "temperature": 1.0}), own, points) for amount in (1.0, 0.5, 0.0)]
    assert rises(found)


def test_fewer_neighbors_come_nearer_to_a_frame_of_the_video(act):
    own = act.subject.motion[: act.subject.n_train]
    assert rises([distance(act(lle=1.0, lle_k=k), own) for k in (1, 10)])


def test_the_clamp_limits(act):
    mean, std = act.subject.motion_mean, act.subject.motion_std
    reach = [float(np.abs((act(clamp=limit, temperature=1.0).motion - mean) / std).max()) for limit in (0.5, 1.0)]
    assert reach[0] <= 0.5 + 1e-3 < reach[1] <= 1.0 + 1e-3


def test_smoothing_calms(act):
    assert rises([-float(np.abs(np.diff(act(smooth=keep, temperature=1.0).motion, axis=0)).mean()) for keep in (0.0, 0.3, 0.8)])


def test_the_mouth_shuts_in_silence_and_the_threshold_says_what_is_silent(act):
    subject = act.subject
    rest = most_closed_mouth(subject.motion[: subject.n_train].reshape(-1, 204), subject.mean_face).reshape(68, 3)[MOUTH]
    quiet = silence_weight(loudness(act.sound, 150), 40.0) == 1.0
    assert quiet.sum() > 10
    away = [float(np.abs(act(close_mouth=amount).motion[quiet][:, MOUTH] - rest).mean()) for amount in (1.0, 0.5, 0.0)]
    assert rises(away) and away[0] < 1e-5
    moved = [np.abs(act(close_mouth=1.0, silence_db=db).motion - act().motion).max((1, 2)) for db in (60.0, 40.0, 10.0)]
    assert rises([int((change > 1e-6).sum()) for change in moved])


def test_the_head_pose_and_the_free_viewpoint(act):
    still, video, part = (act(pose=pose).cameras[:, :3] for pose in ("still", "video", "3-6"))
    assert np.ptp(still, axis=0).max() < 1e-6 < np.ptp(part, axis=0).max() < np.ptp(video, axis=0).max()
    swung = act(pose="still", orbit=20.0)
    assert np.array_equal(swung.cameras, act(pose="still").cameras)
    angle = np.degrees(
        np.arccos(np.clip((np.trace(swung.head_cameras[:, :3, :3] @ swung.cameras[0, :3, :3].T, axis1=1, axis2=2) - 1) / 2, -1, 1))
    )
    assert angle.max() == pytest.approx(20.0, abs=0.2) and angle[0] < 0.1
