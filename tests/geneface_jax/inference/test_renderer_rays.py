"""`--rays`: which pictures are rendered adaptively, and that the control changes what is evaluated, not what is seen."""

import numpy as np
import pytest

from geneface_jax.inference import renderer as module
from geneface_jax.inference.controls import RAYS
from geneface_jax.inference.renderer import SubjectRenderer
from tests.tiny_person import write_person

SIZE = 64


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return SubjectRenderer.load(write_person(tmp_path_factory.mktemp("rays") / "anna", size=SIZE))


@pytest.fixture
def schedules(monkeypatch):
    """Names of the functions that render, in order."""
    called = []
    for name in ("render_heads", "render_heads_adaptively"):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, name=name, real=real, **k: called.append(name) or real(*a, **k))
    return called


def frames(renderer, **options):
    subject = renderer.subject
    drive = subject.motion[:2].reshape(2, 204), subject.cameras[:2], subject.eye_openness[:2]
    return np.stack(list(renderer.render(*drive, **options))).astype(int)


def test_every_choice_is_known():
    assert RAYS == ("trained", "full", "adaptive")


@pytest.mark.parametrize(
    ("rays", "size", "single_pass", "adaptive"),
    [
        ("full", None, False, False),
        ("adaptive", None, False, True),
        ("adaptive", None, True, True),  # asked for
        ("trained", None, False, False),
        ("trained", 96, False, False),
        ("full", 96, False, False),
        ("adaptive", 33, False, False),  # half of an odd size is no size
    ],
)
def test_when_rays_are_adaptive(renderer, schedules, rays, size, single_pass, adaptive):
    found = frames(renderer, rays=rays, size=size, single_pass=single_pass)
    assert found.shape == (2, size or SIZE, size or SIZE, 3)
    assert set(schedules) == {"render_heads_adaptively" if adaptive else "render_heads"}


def test_adaptive_rays_change_little_and_nothing_at_eyes_and_mouth(renderer):
    full, adaptive = (frames(renderer, rays=rays) for rays in ("full", "adaptive"))
    change = np.abs(full - adaptive)
    assert 0 < change.mean() < 1.0 and np.percentile(change, 99) <= 8
    subject = renderer.subject
    boxes = renderer._eyes_and_mouth(subject.motion[:2], subject.cameras[:2], SIZE)
    assert boxes.shape == (2, 3, 4)
    for picture, frame_boxes in zip(change, boxes, strict=True):
        for x0, y0, x1, y1 in np.clip(frame_boxes, 0, SIZE):
            assert x1 > x0 and y1 > y0 and picture[y0:y1, x0:x1].max() <= 1


def test_the_boxes_follow_the_landmarks_and_the_size(renderer):
    subject = renderer.subject
    still = np.zeros((1, 68, 3), np.float32)
    small, large = (renderer._eyes_and_mouth(still, subject.cameras[:1], size)[0] for size in (SIZE, 2 * SIZE))
    np.testing.assert_allclose(large, 2 * small, atol=2)
    mouth, right, left = ((box[:2] + box[2:]) / 2 for box in small)
    assert mouth[1] > max(right[1], left[1]) and abs(right[0] - left[0]) > 4, "the mouth is below the eyes"
    opened = still.copy()
    opened[:, 48:, 1] -= 5.0
    assert renderer._eyes_and_mouth(opened, subject.cameras[:1], SIZE)[0, 0, 1] > small[0, 1]
