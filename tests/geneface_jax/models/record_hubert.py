#!/usr/bin/env python3
"""Records the output of transformers' HubertModel with tiny random weights for a short sound: tests/geneface_jax/models/hubert.npz.

Two variants: "large" (layer norms in the convolutions, norms first, biases) and "base" (a norm over time, norms last), each with another
spelling of the weight norm's names. Needs torch and transformers, which neither the library nor its tests do; the file is recorded once.

    python tests/geneface_jax/models/record_hubert.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

OUT = Path(__file__).with_name("hubert.npz")
SAMPLES = 4000
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
VARIANTS = {
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "base": {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False},
}
OLD_SPELLING = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def record(variant: str, seed: int) -> dict[str, np.ndarray]:
    """Config, weights (float16 numbers, so that the file is small and exact), raw and normalized sound, and the last hidden state."""
    torch.manual_seed(seed)
    config = HubertConfig(**SIZES, **VARIANTS[variant])
    model = HubertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter + 0.1 * torch.randn_like(parameter)).half().float())
    raw = (0.05 * torch.randn(SAMPLES) + 0.01).numpy()
    processor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=16000, padding_value=0.0, do_normalize=True)
    samples = processor(raw, sampling_rate=16000, return_tensors="np").input_values[0]
    with torch.no_grad():
        hidden = model(torch.from_numpy(samples)[None]).last_hidden_state[0].numpy()
    arrays = {"config": np.array(json.dumps(config.to_dict())), "raw": raw, "samples": samples, "hidden": hidden}
    for name, value in model.state_dict().items():
        for new, old in OLD_SPELLING.items() if variant == "base" else ():
            name = name.replace(new, old)
        arrays[f"weights/{name}"] = value.numpy().astype(np.float16)
    return {f"{variant}/{name}": array for name, array in arrays.items()}


def main() -> None:
    """Writes the file."""
    arrays = {}
    for seed, variant in enumerate(VARIANTS):
        arrays |= record(variant, seed)
    np.savez_compressed(OUT, **arrays)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
