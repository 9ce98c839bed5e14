"""What a run tells: curves, config, final row, memory; starving devices; nothing at all from a process that does not speak."""

from __future__ import annotations

import time

import numpy as np
from toy_stage import ToyStage, toy_config

from geneface_jax.training import devices
from geneface_jax.training.loop import train
from geneface_jax.training.recovery import Prefetch
from geneface_jax.training.reporting import RunLog, Summaries, read_metrics
from geneface_jax.training.stage import Evaluation


def events(folder):
    """Tags in TensorBoard's files, by the kind of their value."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((folder / "tensorboard").rglob("*tfevents*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(value.tag, value) for value in event.summary.value]
            at += 16 + length
    return found


def test_tensorboard_gets_every_kind(tmp_path):
    summaries = Summaries(tmp_path, 0)
    picture = np.zeros((8, 8, 3), np.uint8)
    sound = (np.sin(np.arange(800) / 10.0).astype(np.float32), 16000)
    summaries.config(toy_config(), 0)
    found = Evaluation({"val/error": 0.5}, {"val/image": picture}, {"val/video": np.stack([picture] * 3)}, {"val/sound": sound})
    summaries.evaluation(1, found)
    summaries.hparams(toy_config(), {"val/error": 0.5})
    summaries.close()
    values = dict(events(tmp_path))
    assert values["val/error"].simple_value == 0.5
    assert values["val/image"].image.height == 8 and values["val/video"].image.encoded_image_string[:3] == b"GIF"
    assert values["val/sound"].audio.sample_rate == 16000 and values["val/sound"].audio.encoded_audio_string[:4] == b"RIFF"
    assert b"| optimizer.lr | 0.1 |" in values["config/text_summary"].tensor.string_val[0]
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"} <= values.keys()
    assert b"optimizer.lr" in values["_hparams_/session_start_info"].metadata.plugin_data.content


def test_a_run_logs_norms_memory_and_its_final_row(tmp_path, capsys):
    stage = ToyStage(toy_config())
    train(stage.config, tmp_path, stage=stage, profile=2)
    row = next(row for row in read_metrics(tmp_path) if row["step"] == 10 and "tr/loss" in row)
    assert {"tr/grad_norm", "tr/update_norm", "tr/param_norm", "steps_per_second", "input_wait_share", "memory/host_peak_gb"} <= row.keys()
    assert 0.0 < row["memory/host_peak_gb"] < 64 and 0.0 <= row["input_wait_share"] <= 1.0
    tags = {tag for tag, _ in events(tmp_path)}
    assert {"config/text_summary", "_hparams_/session_end_info", "val/image", "val/video"} <= tags
    assert list((tmp_path / "profile").rglob("*.xplane.pb")), "two updates were recorded"
    assert "steps 4 to 5 are recorded" in capsys.readouterr().out
    assert devices.memory() == {}, "a CPU has no memory of its own to tell of"


def test_starving_devices_are_told_once(capsys):
    log = RunLog(ToyStage(toy_config()), 10)
    log.clock.start()
    for step in range(1, 4):
        time.sleep(0.02)
        log.means(step, {"loss": 1.0}, waited=10.0 * step)
    log.close()
    assert capsys.readouterr().out.count("of the time goes into waiting for data") == 1


def test_a_batch_that_does_not_come_is_told(capsys):
    log = RunLog(ToyStage(toy_config()), 10)
    batches = Prefetch(lambda step: time.sleep(0.2 * step) or step, 0, 2, stalled=log.stalled, stalled_seconds=0.05)
    assert list(batches) == [0, 1] and 0.1 < batches.waited < 5.0
    log.close()
    assert "the batch of step 2 has not come for 0 s: the data is slow" in capsys.readouterr().out


def test_a_process_that_does_not_speak_is_silent(tmp_path, capsys):
    log = RunLog(ToyStage(toy_config()), 10, enabled=False)
    log.open(tmp_path, 0, toy_config())
    log.say("hello")
    log.means(1, {"loss": 1.0}, 0.0)
    log.evaluation(1, Evaluation({"val/error": 1.0}))
    log.finish(toy_config(), {"loss": 1.0})
    log.close()
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []
