# Runs the autoencoder of Stable Diffusion in PyTorch, with a plain model that is written from the
# formulas, in float32 or, by autocast, in bfloat16. SPDX-License-Identifier: MIT
#
#     vae.py make WEIGHTS             writes 83,653,863 random weights as safetensors
#     vae.py input encode|decode SIDE OUT
#     vae.py encode|decode WEIGHTS SIDE IN OUT f32|bf16    prints the seconds of its fastest pass
#     vae.py compare OUT EXPECTED MOST    prints the relative error; fails over MOST
#
# Inputs and outputs are float32 without a header: an image's pixels (3,SIDE,SIDE), from -1 to 1;
# mean and deviation of its latent, or a latent, (4,SIDE/8,SIDE/8), scaled.
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

CHANNELS, RESNETS, LATENT, SCALE = (128, 256, 512, 512), 2, 4, 0.18215
PASSES = 4  # as in tests/tools/kl-network.c


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Resnet(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), conv(inputs, outputs)
        self.norm2, self.conv2 = norm(outputs), conv(outputs, outputs)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return h + (self.conv_shortcut(x) if hasattr(self, 'conv_shortcut') else x)


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.group_norm = norm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):  # (B,C,H,W)
        h = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]  # (B,1,T,C)
        h = F.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h))
        return x + self.to_out[0](h)[:, 0].transpose(1, 2).view(x.shape)


class Middle(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(channels)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode='nearest'))


class Level(nn.Module):
    def __init__(self, inputs, outputs, resnets, samplers, name):
        super().__init__()
        self.resnets = nn.ModuleList(
            Resnet(outputs if i else inputs, outputs) for i in range(resnets))
        self.samplers = name
        setattr(self, name, nn.ModuleList(samplers))

    def forward(self, x):
        for part in (*self.resnets, *getattr(self, self.samplers)):
            x = part(x)
        return x


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        last = len(CHANNELS) - 1
        self.conv_in = conv(3, CHANNELS[0])
        self.down_blocks = nn.ModuleList(
            Level(CHANNELS[max(i - 1, 0)], c, RESNETS, [Down(c)] if i < last else [],
                  'downsamplers') for i, c in enumerate(CHANNELS))
        self.mid_block = Middle(CHANNELS[-1])
        self.conv_norm_out, self.conv_out = norm(CHANNELS[-1]), conv(CHANNELS[-1], 2 * LATENT)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        channels = CHANNELS[::-1]
        last = len(channels) - 1
        self.conv_in = conv(LATENT, channels[0])
        self.mid_block = Middle(channels[0])
        self.up_blocks = nn.ModuleList(
            Level(channels[max(i - 1, 0)], c, RESNETS + 1, [Up(c)] if i < last else [],
                  'upsamplers') for i, c in enumerate(channels))
        self.conv_norm_out, self.conv_out = norm(channels[-1]), conv(channels[-1], 3)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.quant_conv = nn.Conv2d(2 * LATENT, 2 * LATENT, 1)
        self.post_quant_conv = nn.Conv2d(LATENT, LATENT, 1)

    def encode(self, x):  # (B,3,H,W) -> (B,2,C,h,w)
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return SCALE * torch.stack([mean, torch.exp(0.5 * logvar.clamp(-30, 20))], 1)

    def decode(self, z):
        return self.decoder(self.post_quant_conv(z / SCALE))


def make(path):
    torch.manual_seed(0)
    model = Autoencoder()
    tensors = dict(model.named_parameters())
    for name, p in tensors.items():
        if p.dim() == 1:
            nn.init.normal_(p, 1.0 if 'norm' in name and 'weight' in name else 0.0, 0.1)
        else:  # keeps the variance of activations through SiLU, which is close to ReLU
            nn.init.kaiming_normal_(p)
    assert sum(p.numel() for p in tensors.values()) == 83653863
    header, at = {}, 0
    for name, p in tensors.items():
        header[name] = {'dtype': 'F32', 'shape': list(p.shape),
                        'data_offsets': [at, at + 4 * p.numel()]}
        at += 4 * p.numel()
    text = json.dumps(header).encode()
    with open(path, 'wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        for p in tensors.values():
            file.write(p.detach().numpy().tobytes())


def load(path):
    model = Autoencoder()
    tensors = dict(model.named_parameters())
    with open(path, 'rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
        start = file.tell()
        for name, entry in header.items():
            first, end = entry['data_offsets']
            file.seek(start + first)
            values = torch.frombuffer(bytearray(file.read(end - first)), dtype=torch.float32)
            tensors[name].data = values.view(entry['shape'])
    return model.eval()


def read(path):
    return torch.frombuffer(bytearray(open(path, 'rb').read()), dtype=torch.float32)


def write(path, x):
    open(path, 'wb').write(x.contiguous().numpy().tobytes())


def make_input(what, side):
    torch.manual_seed(1)
    if what == 'decode':
        return torch.randn(LATENT, side // 8, side // 8)
    coarse = torch.rand(1, 3, 8, 8) * 2 - 1
    smooth = F.interpolate(coarse, (side, side), mode='bicubic')[0]
    return (smooth + 0.1 * torch.randn(3, side, side)).clamp(-1, 1)


@torch.no_grad()
def run(what, weights, side, source, precision):
    model = load(weights)
    x = read(source)
    x = x.view(1, 3, side, side) if what == 'encode' else x.view(1, LATENT, side // 8, side // 8)
    seconds = []
    for _ in range(PASSES):
        start = time.monotonic()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=precision == 'bf16'):
            y = getattr(model, what)(x)
        seconds.append(time.monotonic() - start)
    print('%.3f' % min(seconds))
    return y.float()


def main():
    what, *rest = sys.argv[1:]
    if what == 'make':
        make(*rest)
    elif what == 'input':
        write(rest[2], make_input(rest[0], int(rest[1])))
    elif what == 'compare':
        got, expected = read(rest[0]).double(), read(rest[1]).double()
        error = float((got - expected).norm() / expected.norm())
        print('%.1e' % error)
        sys.exit(not error <= float(rest[2]))
    else:
        weights, side, source, to, precision = rest
        write(to, run(what, weights, int(side), source, precision))


if __name__ == '__main__':
    main()
