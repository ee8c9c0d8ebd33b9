# Measures the work of tests/bench/gpu.sh in PyTorch, as its users make it fast: torch.compile,
# bfloat16 with float32 masters, scaled_dot_product_attention, fused AdamW, no checkpointing.
# SPDX-License-Identifier: MIT
#
#     gpu.py train|sample DEPTH WIDTH HEADS PATCH CHANNELS SIDE BATCH STEPS
#     gpu.py encode|decode SIDE BATCH STEPS
#
# prints the images per second and the batch, of a training step, of a guided sampling step, or of the
# autoencoder at SIDE pixels. The rate is the median of STEPS steps after 3 that don't count. The batch
# is halved until it fits into the GPU's memory. $DEVICE names another device than cuda; $ATTENTION the
# only kind of attention, flash or cudnn; with COMPILE=blocks each block is compiled and not the whole,
# which starts sooner.
import copy
import os
import statistics
import sys
import time

import torch

device = torch.device(os.environ.get('DEVICE', 'cuda'))
torch.set_default_device(device)
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import train  # noqa: E402: its tables are made on the device
import vae  # noqa: E402


blockwise = os.environ.get('COMPILE') == 'blocks'


def choose_attention(kind):
    if kind:
        torch.backends.cuda.enable_flash_sdp(kind == 'flash')
        torch.backends.cuda.enable_cudnn_sdp(kind == 'cudnn')
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_math_sdp(False)


def compile_work(model, work):
    if not blockwise:
        return torch.compile(work)
    for block in model.blocks:
        block.compile()
    return work


def half_precision():
    return torch.autocast(device.type, torch.bfloat16)


def make_model(sizes):
    model = train.DiT(*sizes)
    for module in (model.last, model.modulation, *(b.modulation for b in model.blocks)):
        torch.nn.init.normal_(module.weight, 0, 0.01)
    model.table = model.table.bfloat16()  # so that the residual stream is bfloat16, too
    return model


def training(sizes, batch):
    model = make_model(sizes)
    average = copy.deepcopy(model).requires_grad_(False)
    parameters, averages = list(model.parameters()), list(average.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0, fused=True)
    loss = compile_work(model, train.loss)
    x0 = torch.randn(batch, model.channels, model.side, model.side)
    labels = torch.randint(train.CLASSES, (batch,))

    def step():
        with half_precision():
            value = loss(model, x0, labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(averages, parameters, 1e-4)
    return step


def sampling(sizes, batch):
    model = make_model(sizes).bfloat16().eval()
    take_step = compile_work(model, train.guided_step)
    x = torch.randn(batch, model.channels, model.side, model.side)
    labels = torch.cat([torch.randint(train.CLASSES, (batch,)),
                        torch.full((batch,), train.CLASSES)])
    t = torch.full((batch,), train.STEPS - 1)

    @torch.no_grad()
    def step():
        with half_precision():
            take_step(model, x, t, labels)
    return step


def autoencoding(what, side, batch):
    model = vae.Autoencoder().bfloat16().to(memory_format=torch.channels_last).eval()
    run = torch.compile(getattr(model, what))
    shape = (batch, 3, side, side) if what == 'encode' else (batch, 4, side // 8, side // 8)
    x = torch.randn(shape).bfloat16().contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def step():
        run(x)
    return step


def wait():
    if device.type == 'cuda':
        torch.cuda.synchronize()


def measure(step, steps):
    seconds = []
    for i in range(steps + 3):
        wait()
        start = time.monotonic()
        step()
        wait()
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds[3:])


def main():
    what, *numbers = sys.argv[1:]
    *sizes, batch, steps = map(int, numbers)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision('high')
    choose_attention(os.environ.get('ATTENTION'))
    while True:
        try:
            step = (training(sizes, batch) if what == 'train' else
                    sampling(sizes, batch) if what == 'sample' else
                    autoencoding(what, *sizes, batch))
            print('%.2f %d' % (batch / measure(step, steps), batch))
            return
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        step = None
        torch._dynamo.reset()
        torch.cuda.empty_cache()
        batch //= 2


main()
