"""Texts of the page in English and Chinese, and which component shows which."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from data_tools.command_line import flag
from geneface_jax.inference.controls import Controls

# ruff: noqa: RUF001 (Chinese punctuation is meant)


# ----------------------------------------------------------------------------------------------------
# The words themselves: key -> (English, Chinese), and the controls' Chinese.

WORDS: dict[str, tuple[str, str]] = {
    "title": ("geneface studio", "geneface 工作室"),
    "tagline": (
        "From speech to a talking video. Everything stays on this machine.",
        "从语音到说话视频。所有数据都留在本机。",
    ),
    "language": ("Language", "语言"),
    "tab.speak": ("Speak", "说话"),
    "tab.train": ("Train", "训练"),
    "tab.postnet": ("PostNet", "PostNet"),
    "person": ("Person", "人物"),
    "portrait": ("Portrait", "肖像"),
    "consent": ("Consent: {consent}", "授权：{consent}"),
    "consent.none": ("not stated; ask the person before you make or share videos of them", "未说明；制作或分享视频前请先征得本人同意"),
    "person.none": (
        "Nobody can speak yet: train a person in the second tab.",
        "还没有可用的人物：请先在第二个标签页训练。",
    ),
    "audio": ("Speech (upload or record)", "语音（上传或录制）"),
    "speech.text": ("... or type a text", "……或输入文字"),
    "speech.say": ("Speak the text", "朗读文字"),
    "fold.picture": ("Picture: background, head pose, size", "画面：背景、头部姿态、尺寸"),
    "fold.motion": ("More about the motion", "更多动作选项"),
    "fold.encoder": ("Video file", "视频文件"),
    "bg.label": ("background", "背景"),
    "bg.info": (
        "the filmed one, a colour, your picture, or none (a .webm with alpha) (--bg)",
        "原背景、纯色、自选图片，或透明（带透明通道的 .webm）（--bg）",
    ),
    "bg.colour": ("background colour", "背景颜色"),
    "bg.picture": ("background picture", "背景图片"),
    "pose.label": ("head pose", "头部姿态"),
    "pose.info": (
        "as in the training video, still, or a range of its frames, back and forth (--pose)",
        "与训练视频相同、静止，或往返播放其中一段帧（--pose）",
    ),
    "pose.first": ("first frame", "起始帧"),
    "pose.last": ("last frame (not included)", "结束帧（不含）"),
    "preview": ("Preview frame", "预览首帧"),
    "landmarks": ("Preview landmarks", "预览关键点"),
    "render": ("Render", "生成视频"),
    "stream": ("Watch while it renders", "边生成边观看"),
    "cancel": ("Cancel", "取消"),
    "preview.image": ("First frame", "首帧"),
    "preview.video": ("Landmarks: network, and after the controls", "关键点：网络输出与控制后"),
    "result": ("Result", "结果"),
    "download": ("Download", "下载"),
    "command": ("The same on the command line", "等效命令行"),
    "history": ("Made on this page", "本页历史"),
    "history.show": ("Show", "显示"),
    "compare.head": ("Compare two settings", "比较两组设置"),
    "compare.keep": ("Keep these settings as A", "将当前设置记为 A"),
    "compare.kept": ("A: {settings}", "A：{settings}"),
    "compare.defaults": ("the defaults", "默认设置"),
    "compare.run": ("Compare A with the settings now", "比较 A 与当前设置"),
    "compare.result": ("A (left) and now (right)", "A（左）与当前（右）"),
    "status.idle": ("Ready.", "就绪。"),
    "status.waiting": ("{ahead} before you ...", "前面还有 {ahead} 个任务……"),
    "status.opening": ("Reading the networks and the speech ...", "正在读取网络与语音……"),
    "status.drawing": ("Frame {done} of {total}, {left} left", "第 {done} 帧，共 {total} 帧，剩余 {left}"),
    "status.done": ("Done in {seconds:.1f} s.", "完成，用时 {seconds:.1f} 秒。"),
    "status.cancelled": ("Cancelled; nothing is left of it.", "已取消，未留下任何文件。"),
    "status.streaming": ("The video below plays while it is rendered.", "下方视频边生成边播放。"),
    "error": ("This did not work: {sentence}", "未能完成：{sentence}"),
    "error.unexpected": (
        "something failed inside; the terminal of the studio says what",
        "内部错误；详情见工作室的终端输出",
    ),
    "train.intro": (
        "A video of one talking person, a minute or longer, becomes a person in the first tab. First look at the report, then train.",
        "一段单人说话视频（一分钟以上）即可训练出一个人物。请先查看报告，再开始训练。",
    ),
    "train.name": ("Name (letters, digits, - and _)", "名称（字母、数字、- 和 _）"),
    "train.video": ("Video", "视频"),
    "train.size": ("picture size in pixels", "画面尺寸（像素）"),
    "train.prepare": ("Look at the video", "分析视频"),
    "train.report": ("Data report", "数据报告"),
    "train.consent": ("Who agreed to this, and when?", "谁在何时同意了此用途？"),
    "train.agree": (
        "The person in this video has agreed to this use.",
        "视频中的人物已同意此用途。",
    ),
    "train.start": ("Train", "开始训练"),
    "train.stop": ("Stop (can go on later)", "停止（可稍后继续）"),
    "train.job": ("Jobs", "任务"),
    "train.resume": ("Go on", "继续"),
    "train.log": ("Progress", "进度"),
    "train.curves": ("Curves", "曲线"),
    "train.samples": ("Sample pictures", "样例画面"),
    "train.status": ("{name}: {what} is {state}", "{name}：{what} {state}"),
    "train.none": ("No job yet.", "暂无任务。"),
    "train.running": ("running", "正在运行"),
    "train.finished": ("finished", "已完成"),
    "train.stopped": ("stopped; it can go on", "已停止，可继续"),
    "train.failed": ("stopped with an error: {sentence}", "出错停止：{sentence}"),
    "train.nobody": ("Consent is missing: say who agreed and when, and tick the box.", "缺少授权：请写明谁在何时同意，并勾选。"),
    "what.prepare": ("looking at the video", "视频分析"),
    "what.fit": ("training", "训练"),
    "postnet.intro": (
        "Which of a person's PostNet checkpoints to use: the curves behind the choice, and each candidate's landmarks.",
        "选择使用哪个 PostNet 检查点：选择依据的曲线，以及各候选的关键点视频。",
    ),
    "postnet.look": ("Inspect", "查看"),
    "postnet.curves": ("Curves; the recommended step is marked", "曲线（标记为推荐步数）"),
    "postnet.table": ("Candidates, best first", "候选（由优到劣）"),
    "postnet.step": ("Candidate", "候选"),
    "postnet.draw": ("Draw its landmarks", "绘制关键点"),
    "postnet.video": ("VAE alone, and with this PostNet", "仅 VAE 与加上此 PostNet"),
    "postnet.recommended": ("Recommended: step {step}; the run is {verdict}.", "推荐：第 {step} 步；训练状态：{verdict}。"),
}

CONTROLS_ZH: dict[str, tuple[str, str]] = {
    "crf": ("质量", "恒定质量：数值越小越好、文件越大；默认 18，0 为无损"),
    "preset": ("编码速度", "同等质量下为节省体积所花的时间：veryslow 约小一成"),
    "pix_fmt": ("像素格式", "yuv420p 兼容所有播放器但色度减半；yuv444p 保留色度；rgb24 精确但少有播放器支持；rgba 用于透明输出"),
    "bitrate": ("码率", "平均码率，如 2000k，用于代替质量：大小已知，质量随之而定"),
    "maxrate": ("最高码率", "码率上限，如 4M，用于流媒体；需要同时给出缓冲"),
    "bufsize": ("缓冲", "控制码率的窗口大小，如 8M：越小越平稳、质量越差"),
    "blink_mode": ("眨眼", "保持睁眼、周期眨眼，或与训练视频相同"),
    "blink_period": ("眨眼周期", "周期眨眼时两次眨眼之间的帧数（每秒 25 帧）"),
    "lle": ("LLE 投影", "将关键点拉向训练视频中的样子（1 为完全）"),
    "lle_mouth": ("嘴部 LLE", "同上，仅嘴部，在整体 LLE 之后"),
    "lle_eyes": ("眼部 LLE", "同上，仅眉眼，在整体 LLE 之后"),
    "lle_k": ("LLE 近邻数", "LLE 混合的训练帧数"),
    "mouth_amp": ("嘴部幅度", "张嘴的幅度；0.4 为预测原样"),
    "temperature": ("温度", "动作的多样性：0 为最可能的动作，1 为随机采样"),
    "clamp": ("限幅", "关键点的上限，以训练视频的标准差计"),
    "smooth": ("平滑", "保留上一帧关键点的比例（0 为不平滑）"),
    "close_mouth": ("静音闭嘴", "无人说话时嘴闭合的程度（0 为预测原样）"),
    "silence_db": ("静音阈值", "比响亮语音低多少分贝算作静音"),
    "seed": ("随机种子", "动作的随机种子"),
    "pose": ("头部姿态", "与训练视频相同、静止，或其中一段帧"),
    "orbit": ("自由视角", "相机绕头部向两侧摆动的角度"),
    "bg": ("背景", "原背景、颜色、图片或透明"),
    "end_threshold": ("终止阈值", "光线在透过率低于此值时停止；越大越快、越粗糙"),
    "precision": ("精度", "bf16 以 bfloat16 保存渲染网络：内存减半，颜色误差一两级"),
    "n_samples_per_ray": ("粗采样数", "原始 NeRF：粗采样数；默认与训练相同"),
    "n_samples_per_ray_fine": ("细采样数", "原始 NeRF：额外的细采样数，0 为无；默认与训练相同"),
    "size": ("尺寸", "视频宽高（像素，偶数）；默认与训练相同"),
    "badge": ("标识", "在画面角落显示“AI 生成”字样"),
}

# ----------------------------------------------------------------------------------------------------
# Every word of the page, in English and Chinese, and which component shows which.

LANGUAGES = {"English": "en", "中文": "zh"}
"""As the switch shows them -> code."""


def text(key: str, language: str, **values: Any) -> str:
    """One text; `values` fill its braces.

    Raises:
      KeyError: there is no such text, or not in this language.
    """
    found = _ALL[key][language]
    return found.format(**values) if values else found


def language_of(accepted: str | None) -> str:
    """ "zh" where a browser's Accept-Language asks for Chinese first, else "en"."""
    return "zh" if (accepted or "").strip().lower().startswith("zh") else "en"


class Labels:
    """Remembers which property of which component shows which text, so that the language can be changed on the open page."""

    def __init__(self, language: str = "en"):
        self._language = language
        self._shown: list[tuple[Any, dict[str, str]]] = []

    def add(self, component: Any, **properties: str) -> Any:
        """Gives properties (label, info, value, placeholder) their texts by key; returns the component."""
        for name, key in properties.items():
            setattr(component, name, text(key, self._language))
        self._shown.append((component, properties))
        return component

    @property
    def components(self) -> list[Any]:
        """Outputs of the event that changes the language."""
        return [component for component, _ in self._shown]

    def updates(self, language: str) -> list[Any]:
        """One update for each of `components`."""
        return [gr.update(**{name: text(key, language) for name, key in keys.items()}) for _, keys in self._shown]


def _control_texts() -> dict[str, dict[str, str]]:
    """Labels and help of the controls: English from the dataclass itself."""
    found = {}
    for field in dataclasses.fields(Controls):
        chinese_label, chinese_help = CONTROLS_ZH[field.name]
        found[f"control.{field.name}.label"] = {"en": field.name.replace("_", " "), "zh": chinese_label}
        found[f"control.{field.name}.info"] = {
            "en": f"{field.metadata['help']} ({flag(field.name)})",
            "zh": f"{chinese_help}（{flag(field.name)}）",
        }
    return found


_ALL = {**{key: {"en": english, "zh": chinese} for key, (english, chinese) in WORDS.items()}, **_control_texts()}
