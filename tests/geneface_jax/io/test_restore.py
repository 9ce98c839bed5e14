"""Resume restores everything bit for bit; warm starts and lenient restores take tensors that fit and name the others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_stage import ToyStage, toy_config

from data_tools.errors import InputError
from geneface_jax.io import checkpoints, restore
from geneface_jax.training.loop import train

OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.constant_schedule(1e-3)))


def state(seed: int = 0, blink: int = 2, frames: int = 3):
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "blink_1": {"kernel": jax.random.normal(keys[0], (32, blink))},
        "body": {"kernel": jax.random.normal(keys[1], (2, 3)), "low": jnp.ones(3, jnp.bfloat16)},
        "frame_codes": jax.random.normal(keys[2], (frames, 4)),
    }
    return {"params": params, "batch_stats": {}, "opt_state": OPTIMIZER.init(params), "occupancy": {"grid": jnp.full((4,), float(seed))}}


def equal(a, b):
    return np.array_equal(np.asarray(a), np.asarray(b))


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(
        np.asarray(x).dtype == np.asarray(y).dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture
def saved(tmp_path):
    checkpoints.save(tmp_path / "run", 7, state(1), {})
    return tmp_path / "run"


def test_resuming_gives_back_every_bit(saved):
    found, step, skipped = restore.resume(saved, state(2))
    assert step == 7 and not skipped and same(found, state(1)) and not same(found, state(2))


def test_resuming_takes_shapes_for_a_state(saved):
    assert same(restore.resume(saved, jax.eval_shape(lambda: state(0)))[0], state(1))


def test_strict_names_tensor_shapes_and_the_flag(saved):
    with pytest.raises(InputError, match=r"params/blink_1/kernel: .* float32\[32, 2\], .* float32\[32, 4\] .*--restore lenient"):
        restore.resume(saved, state(0, blink=4))
    with pytest.raises(InputError, match=r"params/blink_1/kernel: .* float32\[32, 2\], .* float32\[32, 4\] .*--restore lenient"):
        restore.warm_start(saved, state(0, blink=4))
    with pytest.raises(InputError, match="extra: the checkpoint holds nothing"):
        restore.resume(saved, {**state(0), "extra": jnp.zeros(1)})
    with pytest.raises(InputError, match="this run expects nothing"):
        restore.resume(saved, {"params": state(0)["params"]})


def test_lenient_skips_whole_tensors_and_names_them(saved):
    fresh = state(0, blink=4)
    found, step, skipped = restore.resume(saved, fresh, mode="lenient")
    names = [item.name for item in skipped]
    assert step == 7 and names[0] == "params/blink_1/kernel" and len(names) == 3, "the tensor and Adam's two moments of it"
    assert all(name.startswith("opt_state/") for name in names[1:])
    assert equal(found["params"]["blink_1"]["kernel"], fresh["params"]["blink_1"]["kernel"])
    for module in ("body", "frame_codes"):
        assert same(found["params"][module], jax.tree.map(np.asarray, state(1)["params"][module]))
    assert jax.tree.structure(found) == jax.tree.structure(fresh)


def test_a_warm_start_takes_what_was_learnt_and_nothing_of_the_run(saved):
    fresh = state(2)
    found, step, skipped = restore.warm_start(saved, fresh)
    assert step == 7 and not skipped
    assert same(found["params"], jax.tree.map(np.asarray, state(1)["params"]))
    for own in ("opt_state", "occupancy"):
        assert same(found[own], fresh[own]), own


def test_a_warm_start_reads_released_checkpoints(saved, tmp_path):
    checkpoints.release(saved, tmp_path / "small", half=("params/body/kernel",))
    found, _, skipped = restore.warm_start(tmp_path / "small", state(2))
    half = np.asarray(state(1)["params"]["body"]["kernel"]).astype(np.float16).astype(np.float32)
    assert not skipped and equal(found["params"]["body"]["kernel"], half)


def test_codes_of_another_video_are_the_mean_code(saved):
    mean = np.asarray(state(1)["params"]["frame_codes"]).mean(0)
    for frames in (3, 8):
        found, _, skipped = restore.warm_start(saved, state(2, frames=frames), appearance_codes="mean")
        assert not skipped
        np.testing.assert_allclose(found["params"]["frame_codes"], np.tile(mean, (frames, 1)), rtol=1e-6)
    with pytest.raises(InputError, match=r"params/frame_codes: .*\[3, 4\].*\[8, 4\]"):
        restore.warm_start(saved, state(2, frames=8))


def test_other_modes_and_missing_checkpoints_are_refused(saved, tmp_path):
    with pytest.raises(InputError, match="--restore is 'loose': choose strict or lenient"):
        restore.resume(saved, state(0), mode="loose")
    with pytest.raises(InputError, match="no checkpoint in"):
        restore.warm_start(tmp_path / "nothing", state(0))


def wide(width, steps):
    config = toy_config(steps=steps)
    config.model.width = width
    return ToyStage(config)


def test_the_loop_warm_starts_once_and_then_resumes(tmp_path, capsys):
    first = wide(3, 40)
    train(first.config, tmp_path / "old", stage=first)
    trained = checkpoints.load(tmp_path / "old").state["params"]["w"]
    second = wide(3, 1)
    train(second.config, tmp_path / "new", stage=second, init=tmp_path / "old")
    assert np.abs(checkpoints.load(tmp_path / "new").state["params"]["w"] - trained).max() <= 0.11, "one update of 0.1 away"
    third = wide(3, 2)
    train(third.config, tmp_path / "new", stage=third, init=tmp_path / "gone")
    said = capsys.readouterr().out
    assert f"starts with the parameters of step 40 of {tmp_path / 'old'}" in said and "resumes from step 1" in said


def test_the_loop_names_what_it_did_not_restore(tmp_path, capsys):
    first = wide(3, 5)
    train(first.config, tmp_path, stage=first)
    second = wide(4, 10)
    with pytest.raises(InputError, match="--restore lenient"):
        train(second.config, tmp_path, stage=second)
    train(second.config, tmp_path, stage=second, restore_mode="lenient")
    said = capsys.readouterr().out
    assert "not restored: params/w: the checkpoint holds float32[3, 2], this run expects float32[4, 2]" in said
    assert checkpoints.load(tmp_path).state["params"]["w"].shape == (4, 2)
