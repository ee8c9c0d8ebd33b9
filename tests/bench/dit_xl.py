# Makes random weights with the shapes and names of DiT-XL/2. SPDX-License-Identifier: MIT
import torch

D, P, C, DEPTH, CLASSES = 1152, 2, 4, 28, 1000


def xl_state(tokens=256):
    shapes = {'pos_embed': (1, tokens, D), 'x_embedder.proj.weight': (D, C, P, P),
              'x_embedder.proj.bias': (D,), 'y_embedder.embedding_table.weight': (CLASSES + 1, D)}

    def linear(name, outputs, inputs):
        shapes[name + '.weight'], shapes[name + '.bias'] = (outputs, inputs), (outputs,)

    linear('t_embedder.mlp.0', D, 256)
    linear('t_embedder.mlp.2', D, D)
    for block in range(DEPTH):
        for name, outputs, inputs in (('attn.qkv', 3, 1), ('attn.proj', 1, 1), ('mlp.fc1', 4, 1),
                                      ('mlp.fc2', 1, 4), ('adaLN_modulation.1', 6, 1)):
            linear(f'blocks.{block}.{name}', outputs * D, inputs * D)
    linear('final_layer.linear', P * P * 2 * C, D)
    linear('final_layer.adaLN_modulation.1', 2 * D, D)
    torch.manual_seed(0)
    return {name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}
