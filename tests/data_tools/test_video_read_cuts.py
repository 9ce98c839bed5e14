"""Cuts are found to the frame; light, pans and black are none."""

import cv2
import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools.errors import InputError
from data_tools.video import THUMBNAIL, check_cuts, cuts_between, frames, with_thumbnails


def scene(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_CUBIC)


def test_another_scene_is_a_cut_and_more_light_or_black_is_not():
    a, b = scene(0), scene(1)
    black, dim = np.zeros_like(a), a // 3
    assert cuts_between([a, a, b, b, a]) == [2, 4]
    assert cuts_between([black, a, dim, a]) == [] == cuts_between([a])
    noisy = [np.clip(a + np.random.default_rng(i).normal(0, 12, a.shape), 0, 255).astype(np.uint8) for i in range(5)]
    assert cuts_between(noisy) == []


def film(path, *, cut):
    """2.2 s of one pattern, then another, at once or by a pan across both."""
    both = np.concatenate([np.kron(scene(i), np.ones((4, 4, 1), np.uint8)) for i in (0, 1)], axis=1)
    cv2.imwrite(str(path.with_suffix(".png")), both[..., ::-1])
    at = "if(lt(t,2.2),0,128)" if cut else "128*clip((t-2.2)*0.8,0,1)"
    ffmpeg("-loop", "1", "-framerate", "25", "-t", "4", "-i", path.with_suffix(".png"), "-vf", f"crop=128:128:'{at}':0", "-c:v", "libx264",
           "-preset", "ultrafast", path)  # fmt: skip
    return path


def thumbnails(path, rate=5.0):
    found = []
    for _ in with_thumbnails(frames(path, (64, 64), fps=rate), found):
        pass
    return found


def test_a_cut_is_named_with_its_time_and_the_trim_that_avoids_it(tmp_path):
    path = film(tmp_path / "a.mp4", cut=True)
    with pytest.raises(InputError, match=r"another scene at 2\.20 s.*--trim 0\.00-2\.20"):
        check_cuts(path, thumbnails(path), 5.0)


def test_a_quick_pan_is_no_cut(tmp_path):
    path = film(tmp_path / "a.mp4", cut=False)
    small = thumbnails(path)
    assert cuts_between(small)  # five times a second it looks like one
    check_cuts(path, small, 5.0)
