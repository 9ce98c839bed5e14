"""Records tests/geneface_jax/models/whisper.npz with transformers' WhisperEncoder, with torch, transformers and soundfile:

    python record_whisper.py CLONE

The weights are those of checkpoints/whisper/encoder.npz in float32, the input is a quarter of a second of the avatar's held-out sentence.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers
from transformers.models.whisper.modeling_whisper import WhisperEncoder

FRAMES = 28
NAMES = {
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/output": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "feed_forward_in": "fc1",
    "feed_forward_out": "fc2",
    "feed_forward_norm": "final_layer_norm",
}


def main() -> None:
    clone = Path(sys.argv[1])
    weights = {name: torch.tensor(value.astype(np.float32)) for name, value in np.load(clone / "checkpoints/whisper/encoder.npz").items()}
    sound = soundfile.read(clone / "data_tools/avatar/speech/demo_heldout.wav", dtype="float32")[0][20000 : 20000 + 160 * FRAMES]
    pcm = np.round(sound * 32768).astype(np.int16)
    extractor = transformers.WhisperFeatureExtractor(feature_size=80)
    mel = extractor._np_extract_fbank_features((pcm / 32768).astype(np.float32)[None], device="cpu")[0].astype(np.float32)
    # The least that is heard, as in `models.whisper`: the networks get the same input.
    heard = np.maximum(mel, (-6.6 + 4.0) / 4.0)

    config = transformers.WhisperConfig(
        d_model=384, encoder_layers=2, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80, max_source_positions=FRAMES // 2
    )
    encoder = WhisperEncoder(config).eval()
    state = {}
    for name in ("conv1", "conv2"):
        state |= {f"{name}.weight": weights[f"{name}/kernel"].permute(2, 1, 0), f"{name}.bias": weights[f"{name}/bias"]}
    for i in range(2):
        for ours, theirs in NAMES.items():
            leaf = "scale" if "norm" in ours else "kernel"
            state[f"layers.{i}.{theirs}.weight"] = weights[f"layer_{i}/{ours}/{leaf}"].T
            if "key" not in ours:  # theirs has no bias, ours is zero
                state[f"layers.{i}.{theirs}.bias"] = weights[f"layer_{i}/{ours}/bias"]
    missing = encoder.load_state_dict(state, strict=False)
    assert set(missing.missing_keys) <= {"embed_positions.weight", "layer_norm.weight", "layer_norm.bias"} and not missing.unexpected_keys

    states = []
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda _, args, named: states.append(args[0] if args else named["hidden_states"]), with_kwargs=True)
    encoder.layers[-1].register_forward_hook(lambda *call: states.append(call[-1][0] if isinstance(call[-1], tuple) else call[-1]))
    with torch.no_grad():
        encoder(torch.tensor(heard)[None])
    named = {f"state_{i}": value.detach().numpy().reshape(-1, 384) for i, value in enumerate(states)}
    np.savez(Path(__file__).with_name("whisper.npz"), pcm=pcm, whisper_mel=mel.T, mel=heard.T, **named)


if __name__ == "__main__":
    main()
