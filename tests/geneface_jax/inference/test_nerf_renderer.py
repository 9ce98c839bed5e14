"""Frames of the vanilla NeRF: pieces, sizes and backgrounds, who may be put together, and the sentences about its speed."""

import dataclasses
import shutil

import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls, sampling_options
from geneface_jax.inference.nerf_renderer import NerfRenderer, speed_warning
from geneface_jax.inference.renderer import open_renderer
from geneface_jax.io.person_folder import SubjectParts, find_parts
from geneface_jax.rendering import nerf
from geneface_jax.training.loop import train
from tests.synthetic_subject import write_subject
from tests.tiny_nerf import nerf_config

FRAMES = slice(0, 3)
FIELDS = ("coarse", "fine")


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A folder with a head and a torso of a few steps: enough to differ from the background."""
    folder = tmp_path_factory.mktemp("person")
    dataset = write_subject(folder / "dataset")
    settings = ("train.steps=25",)
    train(nerf_config("nerf_head", dataset, *settings), folder / "nerf_head")
    train(nerf_config("nerf_torso", dataset, *settings, f"data.head={folder / 'nerf_head'}"), folder / "nerf_torso")
    return folder


@pytest.fixture(scope="module")
def renderer(person):
    return open_renderer(find_parts(person, need_speech=False))


def frames(renderer, **options):
    subject = renderer.subject
    said = []
    found = renderer.render(subject.motion[FRAMES], subject.cameras[FRAMES], subject.eye_openness[FRAMES], log=said.append, **options)
    return np.stack(list(found)).astype(int), said


@pytest.fixture(scope="module")
def plain(renderer):
    return frames(renderer)


def test_frames_show_something_and_the_user_is_told_how_slow_it_is(renderer, plain):
    pictures, said = plain
    assert isinstance(renderer, NerfRenderer)
    assert pictures.shape == (3, 32, 32, 3)
    assert np.abs(pictures - renderer.subject.background).max() > 4
    (line,) = said
    assert "vanilla NeRF is slow" in line and "32x32" in line and "for 3 frames" in line and "6 + 6 samples" in line


def test_rendering_twice_gives_the_same_picture(renderer, plain):
    np.testing.assert_array_equal(frames(renderer)[0], plain[0])


def test_the_pieces_of_a_frame_do_not_show(renderer, plain, monkeypatch):
    monkeypatch.setattr(nerf, "POINTS_PER_CHUNK", 12 * 300)
    assert renderer.person.chunks(32).shape == (4, 300, 2)
    assert np.abs(frames(renderer)[0] - plain[0]).max() <= 1


def test_samples_change_the_picture_a_little(renderer, plain):
    more, said = frames(renderer, samples=24, fine_samples=24)
    assert 0 < np.abs(more - plain[0]).mean() < 20 and "24 + 24 samples" in said[0]
    coarse, said = frames(renderer, fine_samples=0)
    assert (coarse != plain[0]).any() and "6 + 0 samples" in said[0]


def test_any_size_is_rendered(renderer, plain):
    large, _ = frames(renderer, size=64)
    assert large.shape == (3, 64, 64, 3)
    assert np.abs(large.reshape(3, 32, 2, 32, 2, 3).mean((2, 4)) - plain[0]).mean() < 6


def test_another_background_is_seen_where_the_person_is_not(renderer, plain):
    black = np.zeros((32, 32, 3), np.uint8)
    dark, _ = frames(renderer, background=black)
    per_frame, _ = frames(renderer, background=np.stack([black, renderer.subject.background, black]))
    np.testing.assert_array_equal(per_frame[1], plain[0][1])
    np.testing.assert_array_equal(per_frame[2], dark[2])
    assert (dark <= plain[0] + 1).all() and (dark < plain[0]).any()


def test_the_torso_follows_the_pose_it_is_given(renderer):
    """And it alone: as solid as a wall, it hides the head."""
    head, torso = renderer.person.params
    fields = {name: {**torso[name], "density_out": {**torso[name]["density_out"], "bias": np.full(1, 50.0, np.float32)}} for name in FIELDS}
    wall = dataclasses.replace(renderer, person=dataclasses.replace(renderer.person, params=(head, {**torso, **fields})))
    turned = renderer.subject.cameras[FRAMES].copy()
    turned[:, 0, 3] += 0.3
    before, after = frames(wall)[0], frames(wall, torso_cameras=turned)[0]
    assert (before != after).any() and np.ptp(before) > 0


def test_the_head_alone(person):
    head = open_renderer(dataclasses.replace(find_parts(person, need_speech=False), torso=None))
    assert head.person.torso is None and frames(head)[0].shape == (3, 32, 32, 3)


def test_a_torso_of_another_head_is_refused(person, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(person, other)
    shutil.rmtree(other / "nerf_head")
    train(nerf_config("nerf_head", other / "dataset", "train.steps=2", "seed=3"), other / "nerf_head")
    with pytest.raises(InputError, match="was trained with another head"):
        NerfRenderer.load(other)
    assert NerfRenderer.load(other, torso=False).torso_model is None


def test_controls_of_the_other_renderer_are_refused(tmp_path):
    vanilla, grid = (SubjectParts(tmp_path, head, None, None) for head in ("nerf_head", "head"))
    assert sampling_options(vanilla, Controls(n_samples_per_ray=32)) == {"samples": 32, "fine_samples": None}
    assert sampling_options(grid, Controls(end_threshold=0.05)) == {"end_threshold": 0.05, "rays": "trained"}
    assert sampling_options(grid, Controls(rays="full"))["rays"] == "full"
    with pytest.raises(InputError, match="--n-samples-per-ray-fine is 64.*no vanilla NeRF"):
        sampling_options(grid, Controls(n_samples_per_ray_fine=64))
    with pytest.raises(InputError, match="--end-threshold is 0.05"):
        sampling_options(vanilla, Controls(end_threshold=0.05))
    with pytest.raises(InputError, match="--rays is full, a control of grid renderers"):
        sampling_options(vanilla, Controls(rays="full"))


@pytest.mark.parametrize(("seconds", "total"), [(0.5, "5 s"), (30.0, "5 min"), (3600.0, "10.0 h")])
def test_durations_are_readable(renderer, seconds, total):
    assert f", {total} for 10 frames" in speed_warning(seconds, 10, 512, renderer.person)


def test_its_alpha_over_a_background_is_the_picture_before_that_background(renderer):
    rgba, said = frames(renderer, transparent=True)
    assert rgba.shape == (3, 32, 32, 4) and len(said) == 1
    background = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    alpha = rgba[..., 3:] / 255.0
    np.testing.assert_allclose(rgba[..., :3] * alpha + background * (1 - alpha), frames(renderer, background=background)[0], atol=6)
