// Compares what a checkpoint, latents and held-out latents say of themselves: a number that means
// something else to one of them would not be noticed later. SPDX-License-Identifier: MIT
#include "bin/dit-train/description.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"

struct description description_of_weights(const struct dit_file *file)
{
    return (struct description){file->path, file->config, file->weights.metadata};
}

int description_of_latents(struct description *description, const char *name,
                           const struct latents *latents, const struct dit_config *model)
{
    const struct latents_shape *shape = latents_shape(latents);
    if (shape->height != shape->width)
        return error_set(STATUS_DATA, "%s are %zux%zu, but a DiT takes squares", name,
                         shape->height, shape->width);
    *description = (struct description){name, *model, latents_schema(latents)->metadata};
    description->sizes.channels = shape->channels;
    description->sizes.input_size = shape->height;
    return 0;
}

static const char *text_of(const struct description *d, const char *key)
{
    return json_string_value(json_object_get(d->metadata, key));
}

json_t *description_classes(const struct description *d)
{
    const char *text = text_of(d, "classes");
    json_t *names = text ? json_loads(text, 0, NULL) : NULL;
    if (json_is_array(names))
        return names;
    json_decref(names);
    return NULL;
}

int description_compare_sizes(const struct description *a, const struct description *b)
{
    return dit_config_compare(&a->sizes, a->name, &b->sizes, b->name);
}

static const char *name_at(const json_t *names, size_t i)
{
    const char *name = json_string_value(json_array_get(names, i));
    return name ? name : "";
}

int description_compare_classes(const struct description *a, const struct description *b)
{
    json_t *of_a = description_classes(a), *of_b = description_classes(b);
    size_t n = json_array_size(of_a), i = 0;
    int rc = 0;
    while (i < n && i < json_array_size(of_b) && strcmp(name_at(of_a, i), name_at(of_b, i)) == 0)
        i++;
    if (of_a && of_b && n != json_array_size(of_b))
        rc = error_set(STATUS_DATA, "%zu classes are named in %s, but %zu in %s", n, a->name,
                       json_array_size(of_b), b->name);
    else if (of_a && of_b && i < n)
        rc = error_set(STATUS_DATA, "class %zu is called \"%.100s\" in %s, but \"%.100s\" in %s", i,
                       name_at(of_a, i), a->name, name_at(of_b, i), b->name);
    json_decref(of_a);
    json_decref(of_b);
    return rc;
}

int description_compare_autoencoders(const struct description *a, const struct description *b)
{
    const char *of_a = text_of(a, "autoencoder"), *of_b = text_of(b, "autoencoder");
    if (of_a && of_b && strcmp(of_a, of_b) != 0)
        return error_set(STATUS_DATA, "the autoencoder is \"%.200s\" in %s, but \"%.200s\" in %s",
                         of_a, a->name, of_b, b->name);
    of_a = text_of(a, "latent_scale");
    of_b = text_of(b, "latent_scale");
    double scale = of_a ? strtod(of_a, NULL) : 0;
    if (of_a && of_b && !(fabs(scale - strtod(of_b, NULL)) <= 1e-6 * fabs(scale)))
        return error_set(STATUS_DATA, "the scale of the latents is %.40s in %s, but %.40s in %s",
                         of_a, a->name, of_b, b->name);
    return 0;
}

int description_compare(const struct description *a, const struct description *b)
{
    int rc = description_compare_sizes(a, b);
    rc = rc < 0 ? rc : description_compare_autoencoders(a, b);
    return rc < 0 ? rc : description_compare_classes(a, b);
}
