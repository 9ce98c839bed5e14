"""Measures the predicted lips on German, French and Chinese: sentences and voices that no network has heard. Writes JSON.

    pip install espeakng-loader
    python scripts/bench/languages.py [--models checkpoints/avatar] [--real FILE.wav] [--json FILE]

Whisper's weights are those of tiny.en, which heard English alone. espeak-ng speaks five sentences of each language with a voice that the
corpus lacks; the avatar's mouth, computed from the same phonemes, is the truth. English beside them is the control. The corpus has two
German, two Mandarin and one French voice of 20 other sentences. Columns as in degraded_sound.py. `--real`: a recording without a truth;
what can be said of it is whether the mouth moves (deviation over that of the avatar's English) and shuts.
"""

import argparse
from pathlib import Path
from typing import Any

from degraded_sound import figures, opening_of

from data_tools.audio.sound import SAMPLE_RATE, cached, load_audio, n_frames_of
from data_tools.avatar.performance import perform
from data_tools.avatar.record_speech import Espeak, record
from data_tools.avatar.speakers import Phoneme, SpeechClip
from data_tools.io import write_json
from geneface_jax.evaluation.lips import shut_share
from geneface_jax.evaluation.report import to_json
from geneface_jax.inference.audio_features import audio_features
from geneface_jax.inference.motion import AudioToMotion
from geneface_jax.io import configs

LANGUAGES = {
    "English": (
        "en+f4",
        "The ferry leaves the harbor before the fog comes in.",
        "My grandmother baked plum cake every Friday.",
        "Have you found the blue umbrella behind the door?",
        "Most people remember only the beginning of a long speech.",
        "We watched the moon above the empty market place.",
    ),
    "German": (
        "de+f4",
        "Der Zug nach Bremen fährt heute von einem anderen Gleis ab.",
        "Meine Mutter buk am Samstag immer einen Pflaumenkuchen.",
        "Hast du den blauen Schirm hinter der Tür gefunden?",
        "Übermorgen möchten wir früh über die Brücke wandern.",
        "Schöne Bücher verschenkt man besser an gute Freunde.",
    ),
    "French": (
        "fr+f2",
        "Le bateau quitte le port avant que la brume arrive.",
        "Ma grand-mère préparait une tarte aux prunes le vendredi.",
        "Tu as trouvé le parapluie bleu derrière la porte ?",
        "Nous voudrions visiter le musée du peuple dimanche matin.",
        "Une longue rue mène au pont couvert de feuilles.",
    ),
    "Chinese": (
        "cmn+m5",
        "明天早上我们坐船去对面的小岛。",
        "妈妈每个星期五都做苹果蛋糕。",
        "你有没有看见门后面的蓝色雨伞？",
        "朋友们在公园里跑步和拍照片。",
        "北方的冬天比南方冷得多。",
    ),
}
"""Language -> espeak-ng's voice and the sentences."""


def spoken(espeak: Espeak, language: str) -> SpeechClip:
    """A language's sentences with their phonemes."""
    voice, *sentences = LANGUAGES[language]
    settings = {"name": language, "voice": voice, "rate": 162, "pitch": 50, "range": 60, "split": "val"}
    samples, times = record(espeak, settings, sentences)
    whole = n_frames_of(samples) * SAMPLE_RATE // 25
    return SpeechClip(language, language, samples[:whole], tuple(Phoneme(*entry) for entry in times["phonemes"]), " ".join(sentences))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of audio2motion/ (default: the shipped ones)")
    parser.add_argument("--real", type=Path, metavar="FILE", help="a recording without a truth")
    parser.add_argument("--json", type=Path, help="file of the figures")
    args = parser.parse_args()
    models = args.models or configs.shipped("checkpoints") / "avatar"
    speech = AudioToMotion.load_corpus_model(models / "audio2motion")
    sound, espeak, rows = cached(audio_features(speech.kind.audio_model)), Espeak(), {}
    english = None
    for language in LANGUAGES:
        clip = spoken(espeak, language)
        truth = perform(clip).motion.reshape(-1, 68, 3)
        motion = speech.predict(*sound.compute(clip.samples, clip.n_frames), temperature=0.0).reshape(-1, 68, 3)
        rows[language] = figures(motion, truth, clip)
        english = opening_of(motion).std() if english is None else english
    if args.real is not None:
        samples = load_audio(args.real)
        frames = n_frames_of(samples)
        opening = opening_of(speech.predict(*sound.compute(samples, frames), temperature=0.0).reshape(-1, 68, 3))
        rows[f"recording: {args.real.stem}"] = {"deviation": float(opening.std() / english), "shut": shut_share(opening)}
    for name, row in rows.items():
        print(f"{name:28}" + "  ".join(f"{key} {value:6.3f}" for key, value in row.items()))
    if args.json:
        report: dict[str, Any] = {"models": args.models.as_posix() if args.models else "shipped", "rows": rows}
        write_json(args.json, to_json(report))


if __name__ == "__main__":
    main()
