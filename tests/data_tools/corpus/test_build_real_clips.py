"""The whole way on videos of the avatar: every filter fires on the clip that was made for it, good clips stay, an offset is corrected."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools.avatar.clip import render_clip
from data_tools.corpus.build import build_corpus, clip_path, read_clip
from data_tools.corpus.selection import CorpusSettings
from geneface_jax.data.corpus import Corpus
from geneface_jax.inference.opening import opening_predictor
from geneface_jax.io import configs

ADA, BEN = "pretrain/ada", "trainval/ben"
DELAY = 8
"""Frames by which the sound of one clip is late."""


@pytest.fixture(scope="module")
def avatars(mediapipe, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("avatars")
    seconds = {"duncan": 10.0, "anna": 3.0}
    return {name: render_clip(folder / name, speaker=name, size=256, seconds=length) for name, length in seconds.items()}


@pytest.fixture(scope="module")
def videos(avatars, tmp_path_factory) -> Path:
    """An LRS3 tree: `ada`, 10 s, once as recorded and once with late sound; `ben`, 3 s, with everything wrong."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / ADA).mkdir(parents=True)
    (folder / BEN).mkdir(parents=True)
    ada, ben = avatars["duncan"] / "video.mp4", avatars["anna"] / "video.mp4"
    (folder / ADA / "good.mp4").write_bytes(ada.read_bytes())
    late = ["-itsoffset", DELAY / 25.0, "-i", ada]
    ffmpeg("-i", ada, *late, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", "-t", "10", folder / ADA / "late_sound.mp4")
    (folder / BEN / "good.mp4").write_bytes(ben.read_bytes())
    (folder / BEN / "unreadable.mp4").write_bytes(bytes(range(256)) * 40)

    def picture(name: str, *video_filter: str) -> None:
        ffmpeg("-i", ben, "-vf", ",".join(video_filter), "-c:a", "copy", folder / BEN / f"{name}.mp4")

    picture("blur", "gblur=sigma=6")
    picture("small_face", "scale=80:80", "pad=320:240:120:80")
    picture("face_lost", "drawbox=color=gray:t=fill:enable='between(t,1,1.8)'")
    picture("no_face", "drawbox=color=gray:t=fill")
    ffmpeg("-i", ben, "-t", "1", folder / BEN / "too_short.mp4")
    ffmpeg("-i", ben, "-an", folder / BEN / "no_sound.mp4")
    hiss = ["-f", "lavfi", "-i", "anoisesrc=r=16000:a=0.1:d=3"]
    ffmpeg("-i", ben, *hiss, "-map", "0:v", "-map", "1:a", "-c:v", "copy", folder / BEN / "silence.mp4")
    two = ["-i", ben, "-t", "3", "-i", ada]
    ffmpeg(*two, "-filter_complex", "[0:v][1:v]hstack", "-map", "0:a", folder / BEN / "several_faces.mp4")
    halves = "[0:v]trim=0:1.5,setpts=PTS-STARTPTS[a];[1:v]trim=1.5:3,setpts=PTS-STARTPTS[b];[a][b]concat=n=2:v=1:a=0"
    ffmpeg(*two, "-filter_complex", halves, "-map", "0:a", folder / BEN / "scene_cut.mp4")
    return folder


@pytest.fixture(scope="module")
def corpus(videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "c"
    build_corpus(videos, out, CorpusSettings.from_mapping(configs.load("corpus")), predictor=opening_predictor(), progress=False)
    return out


def record(corpus: Path, name: str) -> dict:
    lines = map(json.loads, (corpus / "journal.jsonl").read_text().splitlines())
    return next(line for line in lines if line["name"] == name)


def test_each_filter_fires_on_the_clip_made_for_it(corpus, videos):
    dropped = json.loads((corpus / "report.json").read_text())["examples"]
    found = {example["clip"]: reason for reason, examples in dropped.items() for example in examples}
    made = [path.stem for path in (videos / BEN).iterdir() if path.stem != "good"]
    assert found == {f"{BEN}/{name}": name for name in made} and len(made) == 10


def test_good_clips_stay_under_their_speakers(corpus):
    loaded = Corpus.load(corpus)
    assert {clip.name: clip.speaker for clip in loaded.clips} == {
        f"{ADA}/good": "ada",
        f"{ADA}/late_sound": "ada",
        f"{BEN}/good": "ben",
    }
    assert {clip.n_frames for clip in loaded.clips if clip.speaker == "ben"} == {75}


def test_the_motion_is_the_avatars(corpus, avatars):
    with np.load(avatars["duncan"] / "truth.npz", allow_pickle=False) as archive:
        truth = archive["motion"]
    motion = read_clip(clip_path(corpus, f"{ADA}/good"))["motion"].reshape(-1, 68, 3)
    gaps = [points[:, 62, 1] - points[:, 66, 1] for points in (motion, truth)]
    assert np.corrcoef(*gaps)[0, 1] > 0.8


def test_late_sound_is_moved_back_to_the_mouth(corpus):
    measured = record(corpus, f"{ADA}/late_sound")["measured"]
    assert measured["offset_confident"] and abs(measured["corrected"] + DELAY) <= 0.6
    assert record(corpus, f"{ADA}/good")["measured"]["corrected"] == 0
    good, moved = (read_clip(clip_path(corpus, f"{ADA}/{name}")) for name in ("good", "late_sound"))
    n_frames = len(moved["motion"])
    assert n_frames == len(good["motion"]) - math.ceil(abs(measured["corrected"]))
    loud = [arrays["audio_features"].mean(1) for arrays in (good, moved)]
    inner = slice(10, 2 * n_frames - 10)
    # To half a frame, which is one audio frame.
    assert max(np.corrcoef(loud[0][inner], np.roll(loud[1], k)[inner])[0, 1] for k in (-1, 0, 1)) > 0.9
    mouth = [arrays["motion"][:n_frames, 3 * 66 + 1] for arrays in (good, moved)]
    assert np.corrcoef(*mouth)[0, 1] > 0.95
