// Builds and searches the list of a model's parameters. SPDX-License-Identifier: MIT
#include "lib/model/layout.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"

static size_t aligned_size(const struct layout *layout)
{
    return (layout->size + LAYOUT_ALIGN - 1) / LAYOUT_ALIGN * LAYOUT_ALIGN;
}

void layout_add(struct layout *layout, bool aligned, const char *name, size_t rank,
                const size_t *shape)
{
    if (mem_grow(&layout->params, layout->n_params, 1, sizeof *layout->params) < 0) {
        layout->failed = true;
        return;
    }
    struct param *p = &layout->params[layout->n_params++];
    *p = (struct param){.rank = rank, .count = 1};
    assert(strlen(name) < sizeof p->name);
    strcpy(p->name, name);
    for (size_t i = 0; i < rank; i++) {
        p->shape[i] = shape[i];
        p->count *= shape[i];
    }
    if (aligned)
        layout->size = aligned_size(layout);
    p->offset = layout->size;
    layout->size += p->count;
}

void layout_add_linear(struct layout *layout, const char *name, size_t O, size_t I)
{
    char text[2 * sizeof layout->params->name];
    snprintf(text, sizeof text, "%s.weight", name);
    layout_add(layout, true, text, 2, (const size_t[]){O, I});
    snprintf(text, sizeof text, "%s.bias", name);
    layout_add(layout, true, text, 1, &O);
}

int layout_finish(struct layout *layout)
{
    layout->size = aligned_size(layout);
    return layout->failed ? -1 : 0;
}

void layout_free(struct layout *layout)
{
    free(layout->params);
    *layout = (struct layout){0};
}

size_t layout_largest(const struct layout *layout)
{
    size_t most = 0;
    for (size_t i = 0; i < layout->n_params; i++)
        if (layout->params[i].count > most)
            most = layout->params[i].count;
    return most;
}

const struct param *layout_find(const struct layout *layout, const char *name)
{
    for (size_t i = 0; i < layout->n_params; i++)
        if (strcmp(layout->params[i].name, name) == 0)
            return &layout->params[i];
    return NULL;
}
