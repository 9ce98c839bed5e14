"""PostNet: a GAN that adapts predicted landmarks to one person's domain (GeneFace's CNNPostNet and MLPDiscriminator)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from geneface_kernels.typing import Array, Float

from geneface_jax.models.layers import Conv1d, ConvBlock, uniform_fan_in

_SLOPES = (0.2, 0.25, 0.25, 0.25)


class CNNPostNet(nn.Module):
    """Refines a landmark sequence: output = input + convolutional residual.

    Attributes:
      base: width; 128 is the original (128, 256, 128).
      zero_init: initializes the residual to zero, so that training starts from the input itself; the original starts from noise.
    """

    base: int = 128
    zero_init: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, motion: Float[Array, "B T D"], train: bool = False) -> Float[jax.Array, "B T D"]:
        """Frames whose entries are all zero are padding: they are masked after every block."""
        x = motion = jnp.asarray(motion)
        mask = jnp.any(motion != 0, axis=-1, keepdims=True).astype(motion.dtype)

        def block(features: int, residual: bool, name: str) -> ConvBlock:
            return ConvBlock(features, residual=residual, negative_slope=0.2, axis_name=self.axis_name, name=name)

        for stage, features in (("block1", self.base), ("block2", 2 * self.base)):
            for i in range(3):
                x = block(features, i > 0, f"{stage}_{i}")(x, train)
            x = x * mask
        x = block(self.base, False, "block3_0")(x, train)
        return motion + Conv1d(motion.shape[-1], zero_init=self.zero_init, name="output")(x) * mask


class MLPDiscriminator(nn.Module):
    """Scores single frames: about 1 for the person's own landmarks, about 0 for generated ones.

    Attributes:
      base: width; 128 is the original (128, 256, 256, 128, 1; the last layer without bias).
      dropout: rate of the dropout after every hidden layer.
    """

    base: int = 128
    dropout: float = 0.25

    @nn.compact
    def __call__(self, motion: Float[Array, "*batch D"], train: bool = False) -> Float[jax.Array, "*batch"]:
        """With `train`, an rng named "dropout" is needed."""
        x = jnp.asarray(motion)
        for i, (features, slope) in enumerate(zip((1, 2, 2, 1), _SLOPES, strict=True)):
            init = uniform_fan_in(x.shape[-1])
            x = nn.Dense(features * self.base, kernel_init=init, bias_init=init, name=f"layer_{i}")(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(nn.leaky_relu(x, slope))
        return nn.Dense(1, use_bias=False, kernel_init=uniform_fan_in(x.shape[-1]), name="score")(x)[..., 0]
