# Measures a training step and a guided sampling step of DiT in PyTorch, with a plain model that is
# written from the formulas, in float32 or, by autocast, in bfloat16. SPDX-License-Identifier: MIT
#
#     train.py eager|compile f32|bf16 train|sample DEPTH WIDTH HEADS PATCH CHANNELS SIDE BATCH STEPS
#
# prints the seconds of each step, after one that is not counted (it compiles the model), then
# "memory BYTES", the peak memory of the process.
import copy
import math
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

CLASSES, FEATURES, STEPS = 1000, 256, 1000


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x, c):  # (B,T,D), (B,D)
        B, T, D = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)[:, None].chunk(6, dim=2)
        h = F.layer_norm(x, (D,), eps=1e-6) * (1 + scale1) + shift1
        q, k, v = self.qkv(h).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, D)
        x = x + gate1 * self.proj(h)
        h = F.layer_norm(x, (D,), eps=1e-6) * (1 + scale2) + shift2
        return x + gate2 * self.fc2(F.gelu(self.fc1(h), approximate='tanh'))


def positions(side, width):  # (T,D): half from the column, half from the row
    omega = 10000 ** (-torch.arange(width // 4) / (width / 4))
    angles = torch.arange(side)[:, None] * omega
    table = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side,D/2)
    columns, rows = table.expand(side, side, -1), table[:, None].expand(side, side, -1)
    return torch.cat([columns, rows], dim=2).reshape(side * side, width)


class DiT(nn.Module):
    def __init__(self, depth, width, heads, patch, channels, side):
        super().__init__()
        self.patch, self.channels, self.side = patch, channels, side
        self.embed = nn.Linear(patch * patch * channels, width)
        self.register_buffer('table', positions(side // patch, width))
        self.time = nn.Sequential(nn.Linear(FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.classes = nn.Embedding(CLASSES + 1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, 2 * channels * patch * patch)

    def forward(self, x, t, labels):  # (B,C,S,S), (B), (B) -> (B,2C,S,S)
        B, C, S, p = len(x), self.channels, self.side, self.patch
        n = S // p
        x = x.view(B, C, n, p, n, p).permute(0, 2, 4, 1, 3, 5).reshape(B, n * n, C * p * p)
        x = self.embed(x) + self.table
        half = FEATURES // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
        c = self.time(torch.cat([angles.cos(), angles.sin()], dim=1)) + self.classes(labels)
        c = F.silu(c)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.modulation(c)[:, None].chunk(2, dim=2)
        x = self.last(F.layer_norm(x, x.shape[2:], eps=1e-6) * (1 + scale) + shift)
        return x.view(B, n, n, p, p, 2 * C).permute(0, 5, 1, 3, 2, 4).reshape(B, 2 * C, S, S)


beta = torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64)
keep = torch.cumprod(1 - beta, 0)
before = torch.cat([torch.ones(1, dtype=torch.float64), keep[:-1]])
variance = beta * (1 - before) / (1 - keep)
log_variance = torch.cat([variance[1:2], variance[1:]]).log()
mean_x0 = beta * before.sqrt() / (1 - keep)
mean_xt = (1 - before) * (1 - beta).sqrt() / (1 - keep)


def at(table, t):
    return table[t].float().view(-1, 1, 1, 1)


def start_of(xt, t, noise):
    return at((1 / keep).sqrt(), t) * xt - at((1 / keep - 1).sqrt(), t) * noise


def mean_of(x0, xt, t):
    return at(mean_x0, t) * x0 + at(mean_xt, t) * xt


def log_variance_of(v, t):
    f = (v + 1) / 2
    return f * at(beta.log(), t) + (1 - f) * at(log_variance, t)


def cdf(x):
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def likelihood(x, mean, log_var):  # -log of a bin of 1/255 about x
    inverse = torch.exp(-0.5 * log_var)
    upper, lower = cdf((x - mean + 1 / 255) * inverse), cdf((x - mean - 1 / 255) * inverse)
    middle = (upper - lower).clamp(min=1e-12).log()
    first, last = upper.clamp(min=1e-12).log(), (1 - lower).clamp(min=1e-12).log()
    return -torch.where(x < -0.999, first, torch.where(x > 0.999, last, middle))


def loss(model, x0, labels):
    t = torch.randint(STEPS, (len(x0),), device=x0.device)
    noise = torch.randn_like(x0)
    xt = at(keep.sqrt(), t) * x0 + at((1 - keep).sqrt(), t) * noise
    labels = torch.where(torch.rand(len(x0), device=x0.device) < 0.1, CLASSES, labels)
    guess, v = model(xt, t.float(), labels).float().chunk(2, dim=1)
    mean, log_var = mean_of(x0, xt, t), at(log_variance, t)
    guess_mean = mean_of(start_of(xt, t, guess.detach()), xt, t)
    guess_log_var = log_variance_of(v, t)
    kl = 0.5 * (guess_log_var - log_var + torch.exp(log_var - guess_log_var) - 1
                + (mean - guess_mean) ** 2 * torch.exp(-guess_log_var))
    first = likelihood(x0, guess_mean, guess_log_var)
    vb = torch.where(t.view(-1, 1, 1, 1) == 0, first, kl) / math.log(2)
    return (noise - guess).square().mean() + vb.mean()


def training(model, batch, autocast):
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0, fused=True)
    pairs = list(zip(average.parameters(), model.parameters()))

    def step():
        x0 = torch.randn(batch, model.channels, model.side, model.side)
        optimizer.zero_grad()
        with autocast:
            total = loss(model, x0, torch.randint(CLASSES, (batch,)))
        total.backward()
        optimizer.step()
        with torch.no_grad():
            for a, b in pairs:
                a.mul_(0.9999).add_(b, alpha=1e-4)
    return step


def guided_step(model, x, t, labels):
    out = model(x.repeat(2, 1, 1, 1), t.repeat(2).float(), labels).float()
    guess, v = out.chunk(2, dim=1)
    given, without = guess.chunk(2)
    guess = torch.cat([without[:, :3] + 4 * (given - without)[:, :3], given[:, 3:]], 1)
    sigma = torch.exp(0.5 * log_variance_of(v[:len(x)], t))
    return mean_of(start_of(x, t, guess), x, t) + sigma * torch.randn_like(x)


def sampling(model, batch, autocast):
    x = torch.randn(batch, model.channels, model.side, model.side)
    labels = torch.cat([torch.randint(CLASSES, (batch,)), torch.full((batch,), CLASSES)])
    t = torch.full((batch,), STEPS - 1)

    @torch.no_grad()
    def step():
        nonlocal x
        with autocast:
            x = guided_step(model, x, t, labels)
    return step


def main():
    how, precision, what = sys.argv[1:4]
    *sizes, batch, steps = map(int, sys.argv[4:])
    torch.manual_seed(0)
    model = DiT(*sizes)
    for module in (model.last, model.modulation, *(b.modulation for b in model.blocks)):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
    autocast = torch.autocast('cpu', dtype=torch.bfloat16, enabled=precision == 'bf16')
    step = {'train': training, 'sample': sampling}[what](model, batch, autocast)
    if how == 'compile':
        model.compile()
    for i in range(steps + 1):
        start = time.monotonic()
        step()
        if i:
            print('%.4f' % (time.monotonic() - start), flush=True)
    print('memory', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == '__main__':
    main()
