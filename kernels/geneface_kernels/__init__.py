"""Array operations of neural radiance fields, one folder per operation; see docs/kernels.md.

Plain `jax.numpy` on CPU, GPU and TPU, and Pallas kernels for NVIDIA GPUs. Imports jax and numpy alone, nothing of geneface_jax.
"""
