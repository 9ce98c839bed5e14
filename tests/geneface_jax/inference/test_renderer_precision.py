"""`--precision bf16` does what its help says: half the memory of the networks, colors off by a level or two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls, in_precision
from geneface_jax.inference.person import plan_motion, render_frames
from geneface_jax.inference.renderer import open_renderer
from geneface_jax.io import configs
from geneface_jax.io.person_folder import find_parts
from tests.tiny_speech import tiny_person, voice_with_pauses

SIZE = 64


def test_only_floating_numbers_are_rounded():
    tree = {"kernel": np.float32([1.0, 1.001]), "count": np.int32([3])}
    found = in_precision(tree, "bf16")
    assert found["kernel"].dtype == jnp.bfloat16 and found["count"].dtype == jnp.int32
    assert in_precision(tree, "fp32")["kernel"].dtype == jnp.float32


def test_the_shipped_person_takes_half_the_memory_and_looks_the_same():
    parts = find_parts(configs.shipped("checkpoints") / "demo")
    frames, weights = {}, {}
    for precision in ("fp32", "bf16"):
        renderer = open_renderer(parts, precision=precision)
        subject = renderer.subject
        drive = subject.motion[:2], subject.cameras[:2], subject.eye_openness[:2]
        frames[precision] = np.stack(list(renderer.render(*drive, size=SIZE))).astype(int)
        weights[precision] = sum(leaf.nbytes for leaf in jax.tree.leaves((renderer.head_params, renderer.torso_params)))
    assert weights["bf16"] == weights["fp32"] / 2
    change = np.abs(frames["bf16"] - frames["fp32"])
    assert 0 < change.mean() <= 1.0 and np.percentile(change, 99) <= 8


def test_a_person_opened_otherwise_is_refused(tmp_path):
    person = tiny_person(tmp_path / "person")
    script = plan_motion(person, voice_with_pauses(1.0), Controls())
    with pytest.raises(InputError, match="--precision is bf16, but .* opened in fp32"):
        next(render_frames(person, script, Controls(precision="bf16")))
