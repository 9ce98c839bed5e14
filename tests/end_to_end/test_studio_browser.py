"""The studio in a real browser (Debian's Chromium through Playwright), with the shipped person.

With GENEFACE_SCREENSHOTS=FOLDER the pages are also kept as pictures, which is how docs/images/studio-*.png are made.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_tools.audio.sound import load_audio, save_wav
from data_tools.video import read_video
from geneface_jax.inference import provenance

pytestmark = pytest.mark.slow

SPEECH = Path("data_tools/avatar/speech/demo_unseen.ogg")
SHORT, LONG = 1.2, 30.0
PATIENCE = 300_000
"""Milliseconds: the first render compiles."""


@pytest.fixture(scope="module")
def chromium():
    """Path of the browser; installed where that can be done, and a failure where it should have worked."""
    pytest.importorskip("gradio", reason="the studio needs the extra `ui`")
    if not shutil.which("chromium"):
        if os.getuid() or not shutil.which("apt-get"):
            pytest.skip("there is no chromium, and only root with apt-get can install it: `apt-get install chromium`")
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-noto-cjk"], check=True)
    return shutil.which("chromium")


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """(address, folder where its private folder lies) of `geneface app` as a user starts it."""
    temporary = tmp_path_factory.mktemp("tmp")
    command = [sys.executable, "-m", "geneface_jax", "app", "--port", "0", "--subject", "checkpoints/demo"]
    with open(temporary / "log", "w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "TMPDIR": str(temporary)})
        try:
            address = next(line.strip() for line in process.stdout if line.startswith("http"))
            yield address, temporary
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            process.stdout.close()
    assert not list(temporary.glob("geneface-studio-*")), "the private folder was left behind"


@pytest.fixture(scope="module")
def browser(chromium):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, studio):
    """The page, loaded; no request may leave this machine."""
    context = browser.new_context(viewport={"width": 1320, "height": 1000}, locale="en-GB", accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(studio[0])
    page.wait_for_selector("#portrait img")
    yield page
    context.close()
    strangers = [url for url in asked if not url.startswith((studio[0], "data:", "blob:"))]
    assert not strangers and not errors


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    samples = load_audio(SPEECH)
    for name, seconds in (("short", SHORT), ("long", LONG)):
        save_wav(folder / f"{name}.wav", np.resize(samples, round(16000 * seconds)))
    (folder / "text.wav").write_text("this is no sound")
    return folder


def upload(page, path):
    page.set_input_files("#audio input[type=file]", str(path))
    page.wait_for_selector("#audio .waveform-container, #audio audio, #audio [data-testid=waveform-controls]", state="attached")


def done(page):
    page.wait_for_selector("#status .studio-done")


def keep(page, name):
    if folder := os.environ.get("GENEFACE_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"studio-{name}.png"), full_page=True)


def test_errors_are_told_in_a_box(page, clips):
    page.click("#render")
    assert "choose or record" in page.inner_text("#status .studio-error")
    upload(page, clips / "text.wav")
    page.click("#preview")
    page.wait_for_selector("#status .studio-error >> text=not an audio or video file")
    keep(page, "error")


def test_both_languages(page):
    assert "Render" in page.inner_text("#render") and "mouth amp" in page.inner_text("#control-mouth_amp")
    page.click("#language >> text=中文")
    page.wait_for_selector("#render >> text=生成视频")
    assert "嘴部幅度" in page.inner_text("#control-mouth_amp") and "授权" in page.inner_text("#consent")
    page.click("#render")
    page.wait_for_selector("#status .studio-error >> text=未能完成")
    keep(page, "chinese")
    page.click("#language >> text=English")
    page.wait_for_selector("#render >> text=Render")


def test_preview_render_download_and_the_same_on_the_command_line(page, clips, tmp_path):
    upload(page, clips / "short.wav")
    page.click("#preview")
    done(page)
    page.wait_for_selector("#preview-image img")
    page.click("#landmarks")
    page.wait_for_selector("#preview-video video", state="attached")
    page.fill("#control-mouth_amp input[type=number]", "0.6")
    page.press("#control-mouth_amp input[type=number]", "Tab")
    page.click("#render")
    page.wait_for_selector("#result video", state="attached")
    done(page)
    with page.expect_download() as started:
        page.click("#download")
    video = tmp_path / "video.mp4"
    started.value.save_as(video)
    frames = list(read_video(video))
    assert len(frames) == round(25 * SHORT) and frames[0].shape == (256, 256, 3)
    assert provenance.read(video).consent == "none needed: a drawn avatar"
    command = page.input_value("#command textarea")
    assert re.search(r"--audio short\.wav .*--mouth-amp 0\.6$", command)
    assert "short.wav" in page.input_value("#history input")
    page.wait_for_timeout(1500)
    keep(page, "speak")


def test_a_cancelled_render_ends_and_leaves_nothing(page, clips, studio):
    (private,) = studio[1].glob("geneface-studio-*")
    before = set((private / "results").iterdir())
    upload(page, clips / "long.wav")
    page.click("#render")
    page.wait_for_selector("#status .studio-bar")
    page.click("#cancel")
    page.wait_for_selector("#status >> text=Cancelled")
    page.click("#preview")
    done(page)
    page.wait_for_selector("#preview-image img")
    assert set((private / "results").iterdir()) == before


def test_a_stream_plays_before_it_is_rendered(page, clips):
    upload(page, clips / "short.wav")
    page.click("#stream")
    page.wait_for_selector("#player video", state="attached")
    page.wait_for_function("document.querySelector('#player video').readyState >= 2")


def test_two_settings_side_by_side(page, clips):
    upload(page, clips / "short.wav")
    page.click("#fold-compare >> text=Compare two settings")
    page.click("#keep")
    page.wait_for_selector("#kept >> text=A:")
    page.fill("#control-mouth_amp input[type=number]", "1")
    page.press("#control-mouth_amp input[type=number]", "Tab")
    page.click("#compare")
    page.wait_for_selector("#compared video", state="attached")
    page.wait_for_function("document.querySelector('#compared video').videoWidth === 512")
    page.wait_for_timeout(1000)
    keep(page, "compare")


def test_training_asks_for_a_video_and_for_consent(page):
    page.click("button[role=tab] >> text=Train")
    page.click("#train-prepare")
    page.wait_for_selector("#train-message .studio-error >> text=name")
    page.click("#train-start")
    page.wait_for_selector("#train-message .studio-error >> text=Consent is missing")
    keep(page, "train")
    page.click("button[role=tab] >> text=PostNet")
    page.click("#postnet-look")
    page.wait_for_selector("#postnet-message .studio-error, #postnet-message .studio-status")
    keep(page, "postnet")
