"""Array operations of neural radiance fields, one folder per operation.

Every operation is plain `jax.numpy` here: the path that runs on CPU, GPU and TPU alike. Nothing in this package imports geneface_jax.
"""
