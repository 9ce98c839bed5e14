"""The sound track that a dataset is made from: checked before the work, part of the recipe only if it was chosen, named in the notes."""

from pathlib import Path

import pytest
from synthetic_video import color_video

from data_tools.audio.sound import SoundTrack
from data_tools.dataset.settings import Settings, check_video, format_changes
from data_tools.errors import InputError
from data_tools.ffmpeg import VideoInfo
from data_tools.video import Box

TRACKS = ("pcm_s16le, 16000 Hz, mono", "aac (LC), 48000 Hz, stereo, fltp")


def test_a_track_that_is_not_there_is_refused(tmp_path):
    video = color_video(tmp_path / "v.mp4")
    assert check_video(video, None, 1)[0].tracks[0].startswith("aac")
    for number in (0, 2):
        with pytest.raises(InputError, match=f"has no sound track {number}: give a number from 1 to 1"):
            check_video(video, None, number)


def test_the_recipe_of_older_datasets_stays():
    settings = {number: Settings(Path("v.mp4"), "00", None, 256, track=number) for number in (None, 1, 2)}
    assert len({each.recipe for each in settings.values()}) == 3
    assert settings[None].recipe == Settings(Path("v.mp4"), "00", None, 256).recipe


def test_notes_name_the_track_and_the_channel():
    info, box = VideoInfo(256, 256, 25.0, 10.0, TRACKS[0], tracks=TRACKS), Box(0, 0, 256)
    first = format_changes(info, None, box, 256, SoundTrack(Path("v.mp4"), 0))
    assert first == ["of 2 sound tracks, number 1 is used"]
    second = format_changes(info, None, box, 256, SoundTrack(Path("v.mp4"), 1, channel=1))
    assert second[0] == "of 2 sound tracks, number 2 is used" and "the right one alone" in second[1] and "48000 Hz" in second[2]
