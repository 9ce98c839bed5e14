"""A head trained with two blink channels is continued with four, by warm start and by resuming, and its eyes still close."""

import dataclasses
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.motion import shape_motion
from geneface_jax.inference.renderer import SubjectRenderer
from geneface_jax.io import checkpoints, configs
from geneface_jax.training.loop import train
from tests.synthetic_subject import tiny_field_config, write_subject

EYES = (slice(11, 15), slice(9, 23))
"""Rows and columns of the pictures where the eyes are drawn: white when open, black when shut."""

OPEN, SHUT = 0.35, 0.05


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A still disc with eyes that are closed in every third frame; the landmarks are constant."""
    folder = write_subject(tmp_path_factory.mktemp("blinker") / "dataset", frames=33)
    with np.load(folder / "arrays.npz") as archive:
        arrays = dict(archive)
    shut = np.arange(33) % 3 == 0
    arrays["eye_openness"] = np.where(shut, SHUT, OPEN).astype(np.float32)
    arrays["motion"] = np.zeros_like(arrays["motion"])
    arrays["motion_mean"], arrays["motion_std"] = np.zeros((68, 3), np.float32), np.ones((68, 3), np.float32)
    arrays["cameras"][:] = arrays["cameras"][0]
    first = np.asarray(Image.open(folder / "frames" / "000000.jpg"))
    head = (folder / "head" / "000000.png").read_bytes()
    for i in range(33):
        frame = first.copy()
        frame[EYES] = 10 if shut[i] else 245
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=98, subsampling=0)
        (folder / "frames" / f"{i:06d}.jpg").write_bytes(stream.getvalue())
        (folder / "head" / f"{i:06d}.png").write_bytes(head)
    np.savez(folder / "arrays.npz", **arrays)
    return folder


def config(dataset, channels, steps):
    made = tiny_field_config(configs.from_file("head:demo"), dataset)
    made.model.update({"blink_channels": channels, "condition_features": 64})
    made.optimizer.lr = 3e-3
    made.data.update({"groups": 4, "face_share": 0.6, "lip_share": 0.0, "eye_share": 0.0, "shut_share": 0.0})
    made.train.update({"steps": steps, "log_every": steps, "eval_every": 0, "save_every": 0})
    return made


@pytest.fixture(scope="module")
def two_channels(dataset):
    return train(config(dataset, 2, 20), dataset.parent / "two")


def brightness_of_eyes(workdir):
    """(open, closed): mean level of the eyes' pixels in an open and a closed frame of `--blink-mode period`."""
    renderer = SubjectRenderer.load(workdir.parent, torso=False, stage=workdir.name)
    subject = renderer.subject
    controls = dataclasses.replace(Controls(), blink_mode="period", blink_period=16, smooth=0.0)
    motion, openness = shape_motion(np.zeros((32, 204), np.float32), subject, controls)
    opened, shut = int(np.argmax(openness)), int(np.argmin(openness))
    chosen = [opened, shut]
    cameras = np.repeat(subject.cameras[:1], 2, axis=0)
    frames = list(renderer.render(motion[chosen], cameras, openness[chosen]))
    return [float(frame[EYES].mean()) for frame in frames]


@pytest.mark.parametrize("way", ["warm start", "resume"])
def test_two_blink_channels_become_four_and_the_eyes_shut(dataset, two_channels, tmp_path, capsys, way):
    person = tmp_path / "person"
    person.mkdir()
    (person / "dataset").symlink_to(dataset)
    wanted = config(dataset, 4, 300)
    if way == "warm start":
        start = {"init": two_channels}
    else:
        start = {}
        (person / "head").mkdir()
        (person / "head" / "config.json").write_bytes((two_channels / "config.json").read_bytes())
        saved, step = checkpoints.read_arrays(two_channels)
        assert saved["params/condition_encoder/blink_1/kernel"].shape == (32, 2)
        shutil.copytree(two_channels / "checkpoints", person / "head" / "checkpoints")
    with pytest.raises(
        InputError, match=r"blink_1/bias: the checkpoint holds float32\[2\], this run expects float32\[4\].*--restore lenient"
    ):
        train(wanted, person / "head", **start)
    capsys.readouterr()
    train(wanted, person / "head", restore_mode="lenient", **start)
    said = " ".join(capsys.readouterr().out.split())  # however it was wrapped
    assert (
        "not restored: params/condition_encoder/blink_1/kernel: the checkpoint holds float32[32, 2], this run expects float32[32, 4]"
        in said
    )
    assert "sigma_net" not in said, "what fits is taken"
    assert checkpoints.load(person / "head").state["params"]["condition_encoder"]["blink_1"]["kernel"].shape == (32, 4)
    opened, shut = brightness_of_eyes(person / "head")
    assert opened - shut > 100, (opened, shut)
