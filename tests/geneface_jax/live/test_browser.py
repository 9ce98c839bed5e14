"""The page of live sessions in a real browser (Debian's Chromium through Playwright), with a recording as its microphone.

With GENEFACE_SCREENSHOTS=FOLDER a picture of the page with the shipped person is kept, which is how docs/images/live.png is made.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gradio")

from data_tools.audio.sound import load_audio, save_wav  # noqa: E402
from geneface_jax.data.subject import Subject  # noqa: E402
from geneface_jax.inference.person import Person  # noqa: E402
from geneface_jax.live.rendering import LiveRenderer, open_stage  # noqa: E402
from geneface_jax.live.speech import open_live_speech  # noqa: E402
from tests.geneface_jax.live.live_server import live_server, patient, stand_in_stage  # noqa: E402
from tests.synthetic_subject import write_subject  # noqa: E402

pytestmark = pytest.mark.slow

SPEECH = Path("data_tools/avatar/speech/demo_unseen.ogg")
BEFORE, SPOKEN, AFTER = 2.0, 4.0, 4.0
"""Seconds of the recording that is the microphone, over and over: silence, speech, silence."""

TEXTS = {
    "en": {"title": "Speak, and anna says it", "idle": "listening", "speaking": "speaking", "ended": "The session has ended."},
    "zh": {"title": "您说话，anna同步讲出来", "idle": "正在聆听", "speaking": "正在说话", "ended": "会话已结束。"},
}

RECORDER = """
window.heard = []; window.seen = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  const samples = this.buffer.getChannelData(0);
  window.output = this.context;
  window.heard.push([when, Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length)]);
  return start.call(this, when);
};
const draw = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (...args) {
  draw.apply(this, args);
  const when = window.output ? window.output.currentTime - (window.output.outputLatency || 0) : 0;
  window.seen.push([when, this.getImageData(16, 16, 1, 1).data[0], document.getElementById("state").textContent]);
};
"""
"""Notes what is played (when, how loud) and what is drawn (when on the clock of the sound, how bright, the state as it is shown)."""


@pytest.fixture(scope="module")
def microphone(tmp_path_factory):
    """A recording with speech in the middle; browsers take it for a microphone."""
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    before, after = (np.zeros(round(16000 * seconds), np.float32) for seconds in (BEFORE, AFTER))
    save_wav(path, np.concatenate([before, load_audio(SPEECH)[: round(16000 * SPOKEN)], after]))
    return path


@pytest.fixture(scope="module")
def browser(microphone):
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium: `apt-get install chromium`")
    playwright = pytest.importorskip("playwright.sync_api")
    options = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*options, f"--use-file-for-fake-audio-capture={microphone}"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Of a server of one person, whose mouth is as wide, and whose pictures as bright, as the sound is loud."""
    stage = stand_in_stage(Subject.load(write_subject(tmp_path_factory.mktemp("anna") / "dataset", frames=44)))
    with live_server(lambda person, size: stage) as (port, _):
        yield port


@pytest.mark.parametrize("language", ["en", "zh"])
@patient
def test_the_mouth_moves_with_the_sound_and_is_shut_before_and_after(browser, port, language):
    texts, errors, asked = TEXTS[language], [], []
    page = browser.new_page(viewport={"width": 720, "height": 720}, locale="en-GB")
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    # The icon is gradio's, which is not served here.
    page.on("console", lambda one: errors.append(one.text) if one.type == "error" and "favicon" not in one.location["url"] else None)
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script(RECORDER)
    page.goto(f"http://127.0.0.1:{port}/live?person=anna")
    if language == "zh":
        page.click("#language >> text=中文")
    assert page.inner_text("#title") == texts["title"]
    page.click("#start")
    for state in ("idle", "speaking", "idle"):
        page.wait_for_selector(f"#state >> text={texts[state]}")
    page.wait_for_timeout(1500)
    heard, seen = page.evaluate("[window.heard, window.seen]")
    page.click("#start")
    page.wait_for_selector(f"#state >> text={texts['ended']}")
    page.close()
    assert not errors and all(url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:")) for url in asked)

    played, level = np.array(heard).T
    shown = [one for one in seen if one[0] > played[0]]
    when, bright = np.array([one[:2] for one in shown], float).T
    assert len(when) > 40
    loud = level[np.clip(np.searchsorted(played, when, side="right") - 1, 0, len(level) - 1)]
    spoken = np.flatnonzero(loud > 0.02)
    # From the first to the last sound of the speech: what is drawn while a sound is heard.
    talk = slice(spoken[0], spoken[-1] + 1)
    assert np.corrcoef(loud[talk], bright[talk])[0, 1] >= 0.7 and np.ptp(bright[talk]) > 30
    idle = {one[2]: one[1] for one in shown}
    assert idle.keys() == {texts["idle"], texts["speaking"]}
    assert {one[1] for one in shown[: talk.start - 12]} == {bright.min()} == {one[1] for one in shown[talk.stop + 12 :]}, "shut"


@pytest.mark.skipif("GENEFACE_SCREENSHOTS" not in os.environ, reason="GENEFACE_SCREENSHOTS names no folder")
def test_the_shipped_person_speaks(browser):
    person = Person.load("demo")
    stage = open_stage(person.name, person, open_live_speech(person), LiveRenderer(person))
    with live_server(lambda person, size: stage) as (port, _):
        page = browser.new_page(viewport={"width": 720, "height": 810}, locale="en-GB")
        page.goto(f"http://127.0.0.1:{port}/live?person=demo")
        page.click("#start")
        page.wait_for_selector("#state >> text=speaking", timeout=60_000)
        page.wait_for_timeout(2500)
        page.screenshot(path=str(Path(os.environ["GENEFACE_SCREENSHOTS"]) / "live.png"))
        page.close()
