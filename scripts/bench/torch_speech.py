"""The speech networks in plain PyTorch for scripts/bench/speech_step.py: same math, with the original repositories' key names."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

STRIDE = 4


def conv(channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, padding: int | None = None, bias: bool = True) -> nn.Conv1d:
    """A convolution; the default padding keeps the length."""
    return nn.Conv1d(channels_in, channels_out, kernel, stride, kernel // 2 if padding is None else padding, bias=bias)


class Block(nn.Module):
    """Convolution, batch norm, optional residual connection, activation."""

    def __init__(self, channels_in, channels_out, kernel=3, stride=1, padding=1, residual=False, slope=0.0):
        super().__init__()
        self.conv_block = nn.Sequential(conv(channels_in, channels_out, kernel, stride, padding), nn.BatchNorm1d(channels_out))
        self.residual, self.slope = residual, slope

    def forward(self, x):
        y = self.conv_block(x)
        return F.leaky_relu(y + x if self.residual else y, self.slope)


class SyncNet(nn.Module):
    """LandmarkHubertSyncNet."""

    def __init__(self, channels: int, base: int):
        super().__init__()
        self.hubert_encoder = self._trunk(channels, base, base, 2)
        self.mouth_encoder = self._trunk(60, 3 * base // 4, base, 1)

    @staticmethod
    def _trunk(channels, first, base, second_stride):
        wide, wider = 2 * base, 4 * base
        blocks = [Block(channels, first), Block(first, base), *(Block(base, base, residual=True) for _ in range(2))]
        blocks += [Block(base, wide, stride=2), *(Block(wide, wide, residual=True) for _ in range(2))]
        blocks += [Block(wide, wider, stride=second_stride), *(Block(wider, wider, residual=True) for _ in range(2))]
        return nn.Sequential(*blocks, Block(wider, wider), Block(wider, wider, padding=0), Block(wider, wider, kernel=1, padding=0))

    def forward(self, audio, mouth):
        """audio [B, 10, C], mouth [B, 5, 60] -> cosine [B]."""
        pairs = (self.hubert_encoder, audio), (self.mouth_encoder, mouth)
        audio, mouth = (F.normalize(encoder(x.transpose(1, 2)).flatten(1)) for encoder, x in pairs)
        return (audio * mouth).sum(-1)


def bce(cosine: torch.Tensor, label: torch.Tensor | float) -> torch.Tensor:
    """Cross-entropy of a cosine in [0, 1]."""
    cosine = cosine.clamp(0, 1)
    return F.binary_cross_entropy(cosine, label if torch.is_tensor(label) else torch.full_like(cosine, label))


class WaveNet(nn.Module):
    """Conditioned gated convolutions."""

    def __init__(self, hidden, kernel, layers, condition):
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.in_layers = nn.ModuleList(weight_norm(conv(hidden, 2 * hidden, kernel)) for _ in range(layers))
        outputs = [2 * hidden] * (layers - 1) + [hidden]
        self.res_skip_layers = nn.ModuleList(weight_norm(conv(hidden, width)) for width in outputs)
        self.cond_layer = weight_norm(conv(condition, 2 * hidden * layers))

    def forward(self, x, mask, condition):
        conditions = self.cond_layer(condition).split(2 * self.hidden, 1)
        output = torch.zeros_like(x)
        for i, (gates, project) in enumerate(zip(self.in_layers, self.res_skip_layers, strict=True)):
            signal, gate = (gates(x) + conditions[i]).chunk(2, 1)
            update = project(torch.tanh(signal) * torch.sigmoid(gate))
            if i < self.layers - 1:
                x = (x + update[:, : self.hidden]) * mask
                output = output + update[:, self.hidden :]
            else:
                output = output + update
        return output * mask


class Coupling(nn.Module):
    """Additive coupling layer: shifts the second half of the channels."""

    def __init__(self, channels, hidden, kernel, layers, condition):
        super().__init__()
        self.pre, self.enc = conv(channels // 2, hidden), WaveNet(hidden, kernel, layers, condition)
        self.post = conv(hidden, channels // 2)
        nn.init.zeros_(self.post.weight)
        nn.init.zeros_(self.post.bias)

    def forward(self, z, mask, condition, inverse=False):
        first, second = z.chunk(2, 1)
        shift = self.post(self.enc(self.pre(first) * mask, mask, condition)) * mask
        return torch.cat([first, (second - shift) * mask if inverse else shift + second * mask], 1)


class Audio2Motion(nn.Module):
    """VAEModel: speech -> landmarks, channels first inside."""

    def __init__(self, model, channels: int):
        super().__init__()
        hidden, wide = model.hidden, model.condition
        self.latent = model.latent
        layers = [conv(channels, wide, 3, bias=False), nn.BatchNorm1d(wide), nn.GELU(), conv(wide, wide, 3, bias=False)]
        self.mel_encoder = nn.Sequential(*layers)
        self.vae = nn.Module()
        vae = self.vae
        vae.g_pre_net = nn.Sequential(conv(wide, wide, 2 * STRIDE, STRIDE, STRIDE // 2))
        vae.encoder, vae.decoder, vae.prior_flow = nn.Module(), nn.Module(), nn.Module()
        vae.encoder.pre_net = nn.Sequential(conv(model.motion_dim, hidden, 2 * STRIDE, STRIDE, STRIDE // 2))
        vae.encoder.wn = WaveNet(hidden, model.kernel_size, model.encoder_layers, wide)
        vae.encoder.out_proj = conv(hidden, 2 * model.latent)
        vae.decoder.pre_net = nn.Sequential(nn.ConvTranspose1d(model.latent, hidden, STRIDE, STRIDE))
        vae.decoder.wn = WaveNet(hidden, model.kernel_size, model.decoder_layers, wide)
        vae.decoder.out_proj = conv(hidden, model.motion_dim)
        couplings = (Coupling(model.latent, model.flow_hidden, model.flow_kernel_size, model.flow_layers, wide) for _ in range(4))
        vae.prior_flow.flows = nn.ModuleList(part for coupling in couplings for part in (coupling, nn.Identity()))

    def forward(self, motion, mask, audio, noise):
        """motion [B, T, D], mask [B, T], audio [B, 2T, C], noise [B, T/4, latent] -> prediction [B, T, D], KL []."""
        g, g_down, vae = *self._encode_audio(audio), self.vae
        mask = mask[:, None]
        down = mask[:, :, ::STRIDE]
        x = vae.encoder.pre_net(motion.transpose(1, 2)) * down
        mean, log_std = vae.encoder.out_proj(vae.encoder.wn(x, down, g_down) * down).chunk(2, 1)
        z = mean + noise.transpose(1, 2) * log_std.exp()
        prior = z
        for coupling in vae.prior_flow.flows[::2]:
            prior = coupling(prior, down, g_down).flip(1)
        log_ratio = -0.5 * ((z - mean) * (-log_std).exp()) ** 2 - log_std + 0.5 * prior**2
        return self._decode(z, mask, g), (log_ratio * down).sum() / down.sum() / self.latent

    @torch.no_grad()
    def generate(self, audio, noise):
        """audio [B, 2T, C], noise [B, T/4, latent] -> motion [B, T, D]."""
        g, g_down = self._encode_audio(audio)
        z, ones = noise.transpose(1, 2), g.new_ones(len(g), 1, g.shape[-1])
        for coupling in reversed(self.vae.prior_flow.flows[::2]):
            z = coupling(z.flip(1), ones[:, :, ::STRIDE], g_down, inverse=True)
        return self._decode(z, ones, g)

    def _encode_audio(self, audio):
        g = self.mel_encoder(audio[:, ::2].transpose(1, 2))
        return g, self.vae.g_pre_net(g)

    def _decode(self, z, mask, g):
        decoder = self.vae.decoder
        return (decoder.out_proj(decoder.wn(decoder.pre_net(z) * mask, mask, g) * mask) * mask).transpose(1, 2)


class PostNet(nn.Module):
    """CNNPostNet."""

    def __init__(self, base: int, channels: int = 204):
        super().__init__()
        for name, width_in, width in (("block1", channels, base), ("block2", base, 2 * base)):
            blocks = [Block(width_in, width, slope=0.2), *(Block(width, width, residual=True, slope=0.2) for _ in range(2))]
            setattr(self, name, nn.Sequential(*blocks))
        self.block3 = nn.Sequential(Block(2 * base, base, slope=0.2), conv(base, channels))

    def forward(self, motion):
        x = motion.transpose(1, 2)
        mask = (x.abs().sum(1, keepdim=True) != 0).float()
        return motion + (self.block3(self.block2(self.block1(x) * mask) * mask) * mask).transpose(1, 2)


class Discriminator(nn.Module):
    """MLPDiscriminator."""

    def __init__(self, base: int, dropout: float, channels: int = 204):
        super().__init__()
        layers, width = [], channels
        for factor, slope in zip((1, 2, 2, 1), (0.2, 0.25, 0.25, 0.25), strict=True):
            layers += [nn.Linear(width, factor * base), nn.LeakyReLU(slope), nn.Dropout(dropout)]
            width = factor * base
        self.backbone = nn.Sequential(*layers, nn.Linear(width, 1, bias=False))

    def forward(self, motion):
        return self.backbone(motion)[..., 0]


def state_dict(network: nn.Module) -> dict:
    """Weights with the originals' key names, as numpy arrays: weight norm was a hook, in current PyTorch it is a parametrization."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = {}
    for key, value in network.state_dict().items():
        for new, old in names.items():
            key = key.replace(new, old)
        weights[key] = value.detach().numpy().copy()
    return weights
