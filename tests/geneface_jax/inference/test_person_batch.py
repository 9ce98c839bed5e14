"""The visible label; folders of recordings; the files of --debug; the origin in every mp4."""

import json
import re

import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools.audio.sound import save_wav
from data_tools.errors import InputError
from data_tools.video import read_video
from geneface_jax.cli import infer as infer_verb
from geneface_jax.cli import main
from geneface_jax.inference import person as batch
from geneface_jax.inference import person as pipeline
from geneface_jax.inference import provenance
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.person import _name_left_out, infer_folder, recordings
from geneface_jax.inference.pictures import with_badge
from tests.tiny_speech import StubRenderer, tiny_person, voice_with_pauses


class Gray(StubRenderer):
    """A renderer of gray frames."""

    def render(self, motion, cameras, eye_openness, **options):
        for _ in motion:
            yield np.full((64, 64, 3), 128, np.uint8)


@pytest.fixture
def person(tmp_path, monkeypatch):
    """`tmp_path/person`, whose networks are opened as stand-ins."""
    opened = tiny_person(tmp_path / "person", Gray)
    for stage in ("postnet", "head", "torso"):
        (tmp_path / "person" / stage / "checkpoints").mkdir(parents=True)
    for module in (pipeline, batch):
        monkeypatch.setattr(module, "open_person", lambda parts, precision="fp32": opened)
    return tmp_path / "person"


@pytest.fixture
def folder(tmp_path):
    """Two recordings, one file that is none, one that is not looked at."""
    (tmp_path / "talk").mkdir()
    save_wav(tmp_path / "talk" / "a.wav", voice_with_pauses(1.0))
    save_wav(tmp_path / "talk" / "c.wav", voice_with_pauses(0.5))
    (tmp_path / "talk" / "b.mp3").write_text("no sound")
    (tmp_path / "talk" / "notes.txt").write_text("")
    return tmp_path / "talk"


@pytest.mark.parametrize("size", [32, 64, 256])
def test_the_badge_is_seen_in_its_corner_alone(size):
    frame = np.full((size, size, 3), 128, np.uint8)
    changed = np.abs(with_badge(frame).astype(int) - 128).max(-1) > 20
    assert changed[size // 2 :].mean() > 0.01 and not changed[: size // 2].any() and (frame == 128).all()
    clear = np.zeros((size, size, 4), np.uint8)
    assert with_badge(clear)[..., 3].max() > 150 and with_badge(clear)[0, -1, 3] == 0


def test_a_folder_becomes_videos_and_what_fails_stops_nothing(person, folder, tmp_path):
    made = list(infer_folder(person, folder, tmp_path / "out", Controls(badge="corner", size=64)))
    assert [path.name for path, _ in made] == ["a.wav", "b.mp3", "c.wav"]
    assert isinstance(made[1][1], InputError) and made[0][1].frames == 25 and made[2][1].frames == 13
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mp4", "c.mp4"]
    frame = next(iter(read_video(tmp_path / "out" / "a.mp4")))
    assert np.abs(frame.astype(int) - 128)[48:].max() > 60 and np.abs(frame.astype(int) - 128)[:32].max() < 12
    alone = pipeline.infer(person, folder / "a.wav", tmp_path / "alone.mp4", Controls(badge="corner", size=64))
    assert alone.path.read_bytes() == (tmp_path / "out" / "a.mp4").read_bytes()
    assert provenance.read(alone.path).consent == "not stated"


def test_every_kind_of_recording_is_taken_and_the_rest_is_named_at_the_end(person, folder, tmp_path, caplog):
    for name, codec in (("d.aiff", "pcm_s16be"), ("e.WMA", "wmav2"), ("f.mka", "flac"), ("g.au", "pcm_s16be"), ("h.caf", "pcm_s16le")):
        ffmpeg("-i", folder / "c.wav", "-c:a", codec, "-f", {"e.WMA": "asf", "f.mka": "matroska"}.get(name, name[2:]), folder / name)
    (folder / "more").mkdir()
    (folder / ".hidden.wav").write_text("")
    (folder / "talk.docx").write_text("")
    with caplog.at_level("WARNING"):
        results = {path.name: result for path, result in infer_folder(person, folder, tmp_path / "out", Controls(size=64))}
    assert [
        name for name, result in results.items() if not isinstance(result, InputError)
    ] == "a.wav c.wav d.aiff e.WMA f.mka g.au h.caf".split()
    assert results["e.WMA"].frames == pytest.approx(13, abs=2)
    named = [record.message for record in caplog.records if "left out" in record.message]
    assert [line.split(" was left out: ")[0] for line in named] == ["more", "notes.txt", "talk.docx"]
    assert "folders in a folder" in named[0] and "does not end like that of a recording" in named[1]


def test_a_hundred_other_files_are_counted(folder, caplog):
    for number in range(100):
        (folder / f"{number:03d}.txt").write_text("")
    _name_left_out(recordings(folder)[1])
    assert len(caplog.records) == 21 and "81 more were left out" in caplog.text


def test_folders_that_can_not_be_used_are_sentences(person, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no recording"):
        recordings(tmp_path / "empty")
    with pytest.raises(InputError, match="names a file"):
        next(infer_folder(person, folder, tmp_path / "out.mp4"))
    (folder / "a.ogg").write_bytes(b"")
    with pytest.raises(InputError, match=r"both make a\.mp4"):
        recordings(folder)


def test_the_command_line_tells_every_recording(person, folder, tmp_path, capsys):
    words = ["infer", "--subject", str(person), "--audio", str(folder), "--out", str(tmp_path / "out")]
    assert main.main(words) == 2
    told = capsys.readouterr()
    assert re.search(r"^a\.wav: 25 frames, 1\.00 s, rendered at \d+\.\d frames/s -> .*a\.mp4$", told.out, re.MULTILINE)
    assert "c.wav: 13 frames" in told.out and "b.mp3" in told.err
    assert main.main([*words, "--debug", str(tmp_path / "d")]) == 2
    assert "--debug is for one recording" in capsys.readouterr().err
    assert infer_verb.__doc__


def test_debug_writes_what_was_known_before_the_first_frame(person, folder, tmp_path):
    where = tmp_path / "debug"
    pipeline.infer(person, folder / "a.wav", tmp_path / "a.mp4", Controls(seed=5), debug=where)
    assert sorted(path.name for path in where.iterdir()) == ["audio.wav", "landmarks.mp4", "script.npz", "settings.json"]
    with np.load(where / "script.npz", allow_pickle=False) as archive:
        shapes = {name: archive[name].shape for name in archive.files}
    assert shapes == {
        "audio_features": (50, 80),
        "f0": (50,),
        "predicted": (25, 204),
        "motion": (25, 68, 3),
        "eye_openness": (25,),
        "cameras": (25, 4, 4),
        "head_cameras": (25, 4, 4),
        "loudness": (25,),
        "silence": (25,),
    }
    assert json.loads((where / "settings.json").read_text())["controls"]["seed"] == 5
    assert len(list(read_video(where / "landmarks.mp4"))) == 25
