"""The avatar: a procedural talking head with exact truth, driven by synthesised speech whose phoneme times are known."""
