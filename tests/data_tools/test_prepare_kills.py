"""Runs that are killed: what the next one makes equals, byte for byte, what an undisturbed one makes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dataset_bytes import contents

from data_tools.prepare import prepare

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

PROGRAM = """
import signal
import sys
from data_tools.dataset import settings

settings.CHUNK_FRAMES = 25
# A shell starts what runs in the background deaf to Ctrl-C, and the tests may run there.
signal.signal(signal.SIGINT, signal.default_int_handler)
from data_tools.prepare import prepare

if __name__ == "__main__":
    prepare(sys.argv[1], sys.argv[2], size=64, name="killed", workers=int(sys.argv[3]), progress=False)
"""
"""Chunks of a second, so that a short clip has some. Spawned workers import this file, and with it the short chunks."""

RANDOM = random.Random(0)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "prepare_in_short_chunks.py"
    path.write_text(PROGRAM)

    def start(video, out, workers=1):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
        command = [sys.executable, str(path), str(video), str(out), str(workers)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    return start


@pytest.fixture(scope="module")
def undisturbed(mediapipe, avatar, program, tmp_path_factory):
    """Contents of the dataset that nothing disturbed, and the seconds it took."""
    out = tmp_path_factory.mktemp("undisturbed") / "dataset"
    start = time.monotonic()
    process = program(avatar / "video.mp4", out)
    assert process.wait() == 0, process.stderr.read()
    return contents(out), time.monotonic() - start


def wait_for(process, out, pattern, count=1):
    """Waits until so many files of the unfinished dataset match."""
    while process.poll() is None and len(list(out.with_name("dataset.partial").glob(pattern))) < count:
        time.sleep(0.005)


@pytest.mark.parametrize("pattern", ["scan.json", "analysis/*.npz", "track.npz", "frames/*.jpg", "arrays.npz"])
def test_killed_at_every_step_and_a_random_time_after(program, avatar, undisturbed, tmp_path, pattern):
    out = tmp_path / "dataset"
    process = program(avatar / "video.mp4", out)
    wait_for(process, out, pattern, RANDOM.randint(1, 3) if "*" in pattern else 1)
    time.sleep(RANDOM.uniform(0.0, 0.5))
    process.kill()
    process.wait()
    if out.exists():
        pytest.skip("the run was over before it could be killed")
    again = program(avatar / "video.mp4", out)
    assert again.wait() == 0, again.stderr.read()
    assert contents(out) == undisturbed[0]
    assert os.listdir(tmp_path) == ["dataset"]


def test_workers_make_the_same_dataset_although_one_is_killed(program, avatar, undisturbed, tmp_path):
    out = tmp_path / "dataset"
    process = program(avatar / "video.mp4", out, workers=2)
    wait_for(process, out, "analysis/*.npz")
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert workers, "there are workers"
    workers[0].kill()
    assert process.wait() == 0, process.stderr.read()
    assert contents(out) == undisturbed[0]


def test_ctrl_c_with_workers_leaves_what_can_be_taken_up_and_no_process(program, avatar, undisturbed, tmp_path):
    out = tmp_path / "dataset"
    process = program(avatar / "video.mp4", out, workers=2)
    wait_for(process, out, "analysis/*.npz")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert not out.exists() and list(out.with_name("dataset.partial").glob("analysis/*.npz"))
    again = program(avatar / "video.mp4", out)
    assert again.wait() == 0
    assert contents(out) == undisturbed[0]


def test_a_second_run_on_the_same_dataset_is_refused(program, avatar, mediapipe, tmp_path):
    out = tmp_path / "dataset"
    first = program(avatar / "video.mp4", out)
    wait_for(first, out, "scan.json")
    second = program(avatar / "video.mp4", out)
    assert second.wait() != 0 and b"Another run works in" in second.stderr.read()
    assert first.wait() == 0
    assert prepare(avatar / "video.mp4", out, size=64, name="killed", progress=False) == out
