"""The avatar: a procedural talking head with exact truth, driven by synthesized speech whose phoneme times are known."""
