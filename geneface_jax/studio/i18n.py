"""Texts of the page in English and Chinese, and which component shows which."""

import dataclasses
from typing import Any

import gradio as gr

from data_tools.command_line import flag
from geneface_jax.inference.controls import Controls

# ruff: noqa: RUF001 (Chinese punctuation is intended)


# -------- Texts: key -> (English, Chinese), and the Chinese labels and help of the controls

TEXTS: dict[str, tuple[str, str]] = {
    "title": ("geneface studio", "geneface 工作室"),
    "tagline": ("From speech to a talking video. Everything stays on this machine.", "从语音到说话视频。所有数据都留在本机。"),
    "language": ("Language", "语言"),
    "tab.speak": ("Speak", "说话"),
    "tab.train": ("Train", "训练"),
    "tab.postnet": ("PostNet", "PostNet"),
    "person": ("Person", "人物"),
    "portrait": ("Portrait", "肖像"),
    "consent": ("Consent: {consent}", "授权：{consent}"),
    "consent.none": ("not stated; ask the person before you make or share videos of them", "未说明；制作或分享视频前请先征得本人同意"),
    "person.none": ("There is no trained person yet: train one in the Train tab.", "还没有可用的人物：请先在“训练”标签页训练。"),
    "people.broken": ("People that can't be used because a file of them is damaged:", "以下人物的文件已损坏，无法使用："),
    "audio": ("Speech (upload or record)", "语音（上传或录制）"),
    "speech.text": ("... or type a text", "……或输入文字"),
    "speech.say": ("Speak the text", "朗读文字"),
    "fold.picture": ("Picture: background, head pose, size", "画面：背景、头部姿态、尺寸"),
    "fold.motion": ("More motion controls", "更多动作选项"),
    "fold.encoder": ("Video file", "视频文件"),
    "bg.label": ("background", "背景"),
    "bg.info": (
        "the filmed background, a color, your picture, or transparent (a .webm with alpha) (--bg)",
        "原背景、纯色、自选图片，或透明（带透明通道的 .webm）（--bg）",
    ),
    "bg.colour": ("background color", "背景颜色"),
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
    "command": ("Equivalent command line", "等效命令行"),
    "history": ("History of this page", "本页历史"),
    "history.show": ("Show", "显示"),
    "compare.head": ("Compare two settings", "比较两组设置"),
    "compare.keep": ("Keep these settings as A", "将当前设置记为 A"),
    "compare.kept": ("A: {settings}", "A：{settings}"),
    "compare.defaults": ("the defaults", "默认设置"),
    "compare.run": ("Compare A with the current settings", "比较 A 与当前设置"),
    "compare.result": ("A (left) and current settings (right)", "A（左）与当前（右）"),
    "status.idle": ("Ready.", "就绪。"),
    "status.waiting": ("Waiting; {ahead} ahead of you ...", "等待中，前面还有 {ahead} 个任务……"),
    "status.opening": ("Loading the networks and the speech ...", "正在加载网络与语音……"),
    "status.drawing": ("Frame {done} of {total}, {left} left", "第 {done} 帧，共 {total} 帧，剩余 {left}"),
    "status.done": ("Done in {seconds:.1f} s.", "完成，用时 {seconds:.1f} 秒。"),
    "status.cancelled": ("Cancelled; no file was kept.", "已取消，未保留任何文件。"),
    "status.streaming": ("The video below plays while it is rendered.", "下方视频边生成边播放。"),
    "error": ("Failed: {sentence}", "未能完成：{sentence}"),
    "error.unexpected": ("Unexpected error: see the terminal of the studio for details.", "内部错误：详情见工作室的终端输出。"),
    "train.intro": (
        "Trains a person from a video of one talking person, a minute or longer. Check the data report first, then train.",
        "用一段单人说话视频（一分钟以上）训练一个可在“说话”标签页使用的人物。请先查看数据报告，再开始训练。",
    ),
    "train.name": ("Name (letters, digits, - and _)", "名称（字母、数字、- 和 _）"),
    "train.video": ("Video", "视频"),
    "train.size": ("picture size in pixels", "画面尺寸（像素）"),
    "train.prepare": ("Analyze the video", "分析视频"),
    "train.report": ("Data report", "数据报告"),
    "train.consent": ("Consent: who agreed to this use, and when?", "授权：谁在何时同意了此用途？"),
    "train.agree": ("The person in this video has agreed to this use.", "视频中的人物已同意此用途。"),
    "train.start": ("Train", "开始训练"),
    "train.stop": ("Stop (can be resumed)", "停止（可稍后继续）"),
    "train.job": ("Jobs", "任务"),
    "train.resume": ("Resume", "继续"),
    "train.log": ("Log", "日志"),
    "train.curves": ("Curves", "曲线"),
    "train.samples": ("Sample pictures", "样例画面"),
    "train.status": ("{name}: {what}, {state}", "{name}：{what}，{state}"),
    "train.none": ("No job yet.", "暂无任务。"),
    "train.running": ("running", "正在运行"),
    "train.finished": ("finished", "已完成"),
    "train.stopped": ("stopped; it can be resumed", "已停止，可继续"),
    "train.failed": ("failed: {sentence}", "失败：{sentence}"),
    "train.nobody": ("Consent is missing: enter who agreed and when, and tick the box.", "缺少授权：请填写谁在何时同意，并勾选。"),
    "what.prepare": ("video analysis", "视频分析"),
    "what.fit": ("training", "训练"),
    "postnet.intro": (
        "Selects a person's PostNet checkpoint: validation curves, ranking, and the landmarks of each candidate.",
        "选择人物的 PostNet 检查点：验证曲线、排名，以及各候选的关键点视频。",
    ),
    "postnet.look": ("Inspect", "查看"),
    "postnet.curves": ("Curves; the recommended step is marked", "曲线（标记为推荐步数）"),
    "postnet.table": ("Candidates, best first", "候选（由优到劣）"),
    "postnet.step": ("Candidate", "候选"),
    "postnet.draw": ("Draw landmarks", "绘制关键点"),
    "postnet.video": ("VAE alone (left), with this PostNet (right)", "仅 VAE（左）与加上此 PostNet（右）"),
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
    "rays": ("光线", "trained：每个像素一条光线，尺寸更大时按训练尺寸；full：任何尺寸都每个像素一条光线；adaptive：画面平滑处每边减半"),
    "precision": ("精度", "bf16 以 bfloat16 保存渲染网络：内存减半，颜色误差一两级"),
    "n_samples_per_ray": ("粗采样数", "原始 NeRF：粗采样数；默认与训练相同"),
    "n_samples_per_ray_fine": ("细采样数", "原始 NeRF：额外的细采样数，0 为无；默认与训练相同"),
    "size": ("尺寸", "视频宽高（像素，偶数）；默认与训练相同；较小则更快，较大则放大（见“光线”）"),
    "badge": ("标识", "在画面角落显示“AI 生成”字样"),
}

# -------- Lookup and switching of languages

LANGUAGES = {"English": "en", "中文": "zh"}
"""Name on the language switch -> code."""


def text(key: str, language: str, **values: Any) -> str:
    """The text of a key, with its placeholders filled from `values`.

    Raises:
      KeyError: unknown key or language.
    """
    found = _ALL[key][language]
    return found.format(**values) if values else found


def language_of(accepted: str | None) -> str:
    """ "zh" if the Accept-Language header starts with Chinese, else "en"."""
    return "zh" if (accepted or "").strip().lower().startswith("zh") else "en"


class Labels:
    """Records which text every component's property shows, so that the language can be switched on the open page."""

    def __init__(self, language: str = "en"):
        self._language = language
        self._entries: list[tuple[Any, dict[str, str]]] = []

    def add(self, component: Any, **properties: str) -> Any:
        """Sets properties (label, info, value, placeholder) to the texts of their keys; returns the component."""
        for name, key in properties.items():
            setattr(component, name, text(key, self._language))
        self._entries.append((component, properties))
        return component

    @property
    def components(self) -> list[Any]:
        """Outputs of the event that switches the language."""
        return [component for component, _ in self._entries]

    def updates(self, language: str) -> list[Any]:
        """One update for each of `components`."""
        return [gr.update(**{name: text(key, language) for name, key in keys.items()}) for _, keys in self._entries]


def _control_texts() -> dict[str, dict[str, str]]:
    """Labels and help of the controls; the English ones come from the dataclass."""
    found = {}
    for field in dataclasses.fields(Controls):
        chinese_label, chinese_help = CONTROLS_ZH[field.name]
        found[f"control.{field.name}.label"] = {"en": field.name.replace("_", " "), "zh": chinese_label}
        found[f"control.{field.name}.info"] = {
            "en": f"{field.metadata['help']} ({flag(field.name)})",
            "zh": f"{chinese_help}（{flag(field.name)}）",
        }
    return found


_ALL = {**{key: {"en": english, "zh": chinese} for key, (english, chinese) in TEXTS.items()}, **_control_texts()}
