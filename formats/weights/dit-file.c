// Finds a DiT's weights and training state in files of several kinds. SPDX-License-Identifier: MIT
#include "formats/weights/dit-file.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/weights/diffusers.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

// The names of each array's tensors begin with one of these; the first that the file has is
// taken...
#define BASES 4
static const char *const bases[TRAINER_ARRAYS][BASES] = {
    [TRAINER_EMA] = {"ema.", "", "model.", "state_dict."},
    [TRAINER_MODEL] = {"model.", "", "state_dict."},
    [TRAINER_EXP_AVG] = {"opt.exp_avg."},
    [TRAINER_EXP_AVG_SQ] = {"opt.exp_avg_sq."},
};
// ... and go on with what PyTorch's wrappers of modules add.
static const char *const wrappers[] = {"", "module.", "_orig_mod.", "module._orig_mod.",
                                       "_orig_mod.module."};

// Tensors whose names begin with these may stand beside bare weights.
static const char *const beside[] = {"pos_embed", "model.", "ema.", "opt.", "state_dict.", NULL};

#define PREFIX_SIZE 64
static bool find_prefix(const struct dit_file *file, int array, const char *marker,
                        char prefix[PREFIX_SIZE])
{
    // In a checkpoint of dit-train the averaged weights must not be replaced by others.
    const char *kind = weights_get(&file->weights, "kind");
    bool averaged = array == TRAINER_EMA && kind && strcmp(kind, "dit-checkpoint") == 0;
    for (size_t b = 0; b < (averaged ? 2 : BASES) && bases[array][b]; b++)
        for (size_t w = 0; w < sizeof wrappers / sizeof *wrappers; w++) {
            char name[PREFIX_SIZE + 64];
            snprintf(prefix, PREFIX_SIZE, "%s%s", bases[array][b], wrappers[w]);
            snprintf(name, sizeof name, "%s%s", prefix, marker);
            if (weights_find(&file->weights, name))
                return true;
        }
    return false;
}

static const char *marker_of(enum naming_style style)
{
    return style == NAMING_OWN ? "x_embedder.proj.weight" : "pos_embed.proj.weight";
}

static int detect_dit_style(struct dit_file *file, char prefix[PREFIX_SIZE])
{
    file->style = NAMING_OWN;
    if (find_prefix(file, TRAINER_EMA, marker_of(file->style), prefix))
        return 0;
    file->style = NAMING_DIT_DIFFUSERS;
    if (find_prefix(file, TRAINER_EMA, marker_of(file->style), prefix))
        return 0;
    return error_set(STATUS_DATA,
                     "%s: neither x_embedder.proj.weight nor pos_embed.proj.weight among its %zu "
                     "tensors: these are not the weights of a DiT",
                     file->path, file->weights.n_weights);
}

// The tensor that holds a parameter or its first part; NULL without an error.
static const struct weight *find_tensor(const struct dit_file *file, const char *prefix,
                                        const char *param)
{
    char name[96], full[PREFIX_SIZE + sizeof name];
    naming_translate(file->style, param, 1, name);
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return weights_find(&file->weights, full);
}

// The same, but it must be there and have this rank; else NULL with an error.
static const struct weight *require_tensor(const struct dit_file *file, const char *prefix,
                                           const char *param, size_t rank)
{
    const struct weight *t = find_tensor(file, prefix, param);
    char shape[128];
    if (!t)
        error_set(STATUS_DATA, "%s: no tensor %s%s: these are not the weights of a DiT", file->path,
                  prefix, param);
    else if (t->rank != rank)
        error_set(STATUS_DATA, "%s: tensor %s has shape %s, expected %zu dimensions", file->path,
                  t->name, shape_text(t->shape, t->rank, shape, sizeof shape), rank);
    return t && t->rank == rank ? t : NULL;
}

// The file's table of positions (1,T,D), or NULL: it is not trained, so files may leave it out.
static const struct weight *find_positions(const struct dit_file *file, const char *prefix)
{
    char name[PREFIX_SIZE + 32];
    snprintf(name, sizeof name, "%s%s", prefix,
             file->style == NAMING_OWN ? "pos_embed" : "pos_embed.pos_embed");
    return weights_find(&file->weights, name);
}

static size_t find_depth(const struct dit_file *file, const char *prefix)
{
    char name[64];
    for (size_t l = 0;; l++) {
        snprintf(name, sizeof name, "blocks.%zu.attn.qkv.weight", l);
        if (!find_tensor(file, prefix, name))
            return l;
    }
}

static int parse_whole_number(const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *number = value;
    return errno || end == text || *end || strchr(text, '-') || value > 1ull << 53 ? -1 : 0;
}

int dit_file_number(const struct dit_file *file, const char *key, uint64_t *number)
{
    const char *text = weights_get(&file->weights, key);
    *number = 0;
    if (!text)
        return error_set(STATUS_DATA, "%s: no %s in its metadata", file->path, key);
    if (parse_whole_number(text, number) < 0)
        return error_set(STATUS_DATA, "%s: metadata %s is \"%s\", expected a whole number",
                         file->path, key, text);
    return 0;
}

// Reads a positive number from the metadata or else from diffusers' config.json; 0 if neither has
// it.
static int read_size(const struct dit_file *file, const json_t *config, const char *key,
                     const char *config_key, size_t *number)
{
    uint64_t value = 0;
    if (weights_get(&file->weights, key) && dit_file_number(file, key, &value) < 0)
        return -1;
    const json_t *said = json_object_get(config, config_key);
    *number = value || !json_is_integer(said) || json_integer_value(said) < 0
                  ? value
                  : (size_t)json_integer_value(said);
    return 0;
}

static int choose_heads(struct dit_file *file, const json_t *config, const struct dit_hints *hints)
{
    struct dit_config *c = &file->config;
    if (read_size(file, config, "num_heads", "num_attention_heads", &c->heads) < 0)
        return -1;
    if (hints->heads)
        c->heads = hints->heads;
    if (!c->heads)
        c->heads = dit_published_heads(c->hidden);
    if (!c->heads) // the widths of heads that are in use
        c->heads = c->hidden % 64 == 0 ? c->hidden / 64 : c->hidden % 72 == 0 ? c->hidden / 72 : 0;
    return c->heads ? 0
                    : error_set(STATUS_DATA,
                                "%s does not say how many heads its attention has, and no "
                                "published model is %zu wide; give --heads",
                                file->path, c->hidden);
}

// Finds the side of the latents from the number of positions.
static int read_side(struct dit_file *file, const struct weight *positions)
{
    struct dit_config *c = &file->config;
    size_t tokens = positions->rank == 3 ? positions->shape[1] : 0, side = 0;
    char text[128];
    while (side * side < tokens && side < 4096)
        side++;
    if (tokens == 0 || side * side != tokens || positions->shape[0] != 1 ||
        positions->shape[2] != c->hidden)
        return error_set(
            STATUS_DATA, "%s: tensor %s has shape %s, expected [1, a square number, %zu]",
            file->path, positions->name,
            shape_text(positions->shape, positions->rank, text, sizeof text), c->hidden);
    c->input_size = side * c->patch;
    return 0;
}

static int choose_side(struct dit_file *file, const char *prefix, const json_t *config,
                       const struct dit_hints *hints)
{
    struct dit_config *c = &file->config;
    const struct weight *positions = find_positions(file, prefix);
    if (positions && read_side(file, positions) < 0)
        return -1;
    if (!positions && read_size(file, config, "input_size", "sample_size", &c->input_size) < 0)
        return -1;
    if (hints->image_size) // a table of positions can be made for any size
        c->input_size = hints->image_size / 8;
    if (!c->input_size && hints->other_data)
        c->input_size = c->patch;
    return c->input_size ? 0
                         : error_set(STATUS_DATA,
                                     "%s does not say for which size of image it was made: no "
                                     "pos_embed, no config.json beside it; give --image-size",
                                     file->path);
}

static int read_config(struct dit_file *file, const char *prefix, const json_t *config,
                       const struct dit_hints *hints)
{
    const struct weight *patch = require_tensor(file, prefix, "x_embedder.proj.weight", 4);
    const struct weight *table =
        patch ? require_tensor(file, prefix, "y_embedder.embedding_table.weight", 2) : NULL;
    if (!table)
        return -1;
    struct dit_config *c = &file->config;
    c->hidden = patch->shape[0];
    c->channels = patch->shape[1];
    c->patch = patch->shape[2];
    c->classes = table->shape[0] - 1;
    c->depth = find_depth(file, prefix);
    if (choose_heads(file, config, hints) < 0 || choose_side(file, prefix, config, hints) < 0)
        return -1;
    if (dit_config_check(c) < 0) // the file is at fault here, not the usage
        return error_set(STATUS_DATA, "%s: %s", file->path, error_message());
    return 0;
}

static int bind_array(struct dit_file *file, int array)
{
    char prefix[PREFIX_SIZE];
    if (!find_prefix(file, array, marker_of(file->style), prefix))
        return 0;
    const struct weight *positions = find_positions(file, prefix);
    if (positions && positions->rank == 3 && positions->shape[0] == 1 &&
        positions->shape[1] == dit_tokens(&file->config) &&
        positions->shape[2] == file->config.hidden)
        file->positions[array] = positions;
    return binding_make(&file->arrays[array], &file->naming, &file->weights, prefix, beside);
}

// Finds the optimizer's state in a file of PyTorch, which numbers the parameters in the order of
// the model's tensors.
static int bind_numbered(struct dit_file *file, int array, const char *kind)
{
    const struct binding *model = &file->arrays[TRAINER_MODEL];
    struct binding *to = &file->arrays[array];
    const struct weights *weights = &file->weights;
    size_t first = 0;
    while (first < weights->n_weights && strncmp(weights->all[first].name, "model.", 6) != 0)
        first++;
    *to = (struct binding){.naming = &file->naming, .file = weights};
    if (!(to->tensors = mem_new(file->naming.n, sizeof *to->tensors)))
        return -1;
    for (size_t i = 0; i < file->naming.n; i++) {
        const struct weight *weight = model->tensors[i];
        char name[64], expected[128], found[128];
        snprintf(name, sizeof name, "opt.state.%zu.%s", (size_t)(weight - weights->all) - first,
                 kind);
        const struct weight *moment = to->tensors[i] = weights_find(weights, name);
        if (!moment)
            return error_set(STATUS_DATA, "%s: no tensor %s; expected, for %s", file->path, name,
                             weight->name);
        if (moment->rank != weight->rank ||
            memcmp(moment->shape, weight->shape, weight->rank * sizeof *weight->shape) != 0)
            return error_set(STATUS_DATA, "%s: tensor %s has shape %s, expected %s", file->path,
                             name, shape_text(moment->shape, moment->rank, found, sizeof found),
                             shape_text(weight->shape, weight->rank, expected, sizeof expected));
    }
    return 0;
}

static bool has_numbered(const struct dit_file *file)
{
    for (size_t i = 0; i < file->weights.n_weights; i++)
        if (strncmp(file->weights.all[i].name, "opt.state.", 10) == 0)
            return true;
    return false;
}

static int bind_all(struct dit_file *file)
{
    if (dit_layout_init(&file->layout, &file->config) < 0 ||
        naming_make(&file->naming, &file->layout, file->style, file->config.depth) < 0)
        return -1;
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        if (bind_array(file, array) < 0)
            return -1;
    if (has_numbered(file) && file->arrays[TRAINER_MODEL].tensors &&
        (bind_numbered(file, TRAINER_EXP_AVG, "exp_avg") < 0 ||
         bind_numbered(file, TRAINER_EXP_AVG_SQ, "exp_avg_sq") < 0))
        return -1;
    file->has_training = true;
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        file->has_training = file->has_training && file->arrays[array].tensors;
    return 0;
}

int dit_file_open(struct dit_file *file, const char *path, const struct dit_hints *hints)
{
    static const struct dit_hints none;
    char prefix[PREFIX_SIZE];
    *file = (struct dit_file){.path = diffusers_find(path, "transformer")};
    if (!file->path)
        return -1;
    if (weights_open(&file->weights, file->path) < 0) {
        free(file->path);
        return -1;
    }
    json_t *config = diffusers_config(file->path);
    int rc = detect_dit_style(file, prefix) < 0 ||
                     read_config(file, prefix, config, hints ? hints : &none) < 0 ||
                     bind_all(file) < 0
                 ? -1
                 : 0;
    json_decref(config);
    if (rc < 0)
        dit_file_close(file);
    return rc;
}

void dit_file_close(struct dit_file *file)
{
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        binding_free(&file->arrays[array]);
    naming_free(&file->naming);
    layout_free(&file->layout);
    weights_close(&file->weights);
    free(file->path);
    *file = (struct dit_file){0};
}

int dit_file_updates(const struct dit_file *file, uint64_t *updates)
{
    static const char first[] = "opt.state.1.step"; // parameter 0, pos_embed, has no state
    const struct weight *step = weights_find(&file->weights, first);
    float value;
    if (step && weight_count(step) == 1 && weight_read_floats(step, 0, 1, &value) == 0 &&
        value >= 0) {
        *updates = (uint64_t)value;
        return 0;
    }
    const char *key = weights_get(&file->weights, first) ? first : "updates";
    return dit_file_number(file, key, updates);
}

const struct binding *dit_file_choose(const struct dit_file *file, enum dit_weights which)
{
    int array = which == DIT_WEIGHTS_MODEL ? TRAINER_MODEL : TRAINER_EMA;
    if (file->arrays[array].tensors)
        return &file->arrays[array];
    error_set(STATUS_DATA, "%s holds only the averaged weights (--which ema)", file->path);
    return NULL;
}

const float **dit_file_in_place(const struct dit_file *file, enum dit_weights which)
{
    const struct binding *from = dit_file_choose(file, which);
    const float **values = from ? mem_new(file->layout.n_params, sizeof *values) : NULL;
    for (size_t i = 0; values && i < file->layout.n_params; i++)
        if (binding_in_place(from, i, &values[i]) < 0) {
            free(values);
            return NULL;
        }
    return values;
}

// Gives the model the file's table of positions, if it has one of the model's size.
static int load_positions(const struct dit_file *file, const struct binding *from, struct dit *dit)
{
    const struct weight *positions = file->positions[from - file->arrays];
    size_t n = positions ? weight_count(positions) : 0;
    float *table = n ? mem_new(n, sizeof *table) : NULL;
    int rc = n == 0 ? 0
             : table && weight_read_floats(positions, 0, 1, table) == 0
                 ? dit_set_positions(dit, table)
                 : -1;
    free(table);
    return rc < 0 ? error_prefix("%s", file->path) : 0;
}

bool dit_file_has_own_positions(const struct dit_file *file)
{
    const struct weight *positions = file->positions[TRAINER_EMA];
    size_t n = positions ? weight_count(positions) : 0;
    float *found = mem_new(n + 1, sizeof *found), *table = mem_new(n + 1, sizeof *table);
    bool own = false;
    if (n && found && table && weight_read_floats(positions, 0, 1, found) == 0) {
        dit_position_table(&file->config, table);
        for (size_t i = 0; i < n; i++)
            own = own || !(fabsf(found[i] - table[i]) <= 0.01f); // rounding to 16 bits changes less
    }
    free(found);
    free(table);
    return own;
}

int dit_file_load(const struct dit_file *file, enum dit_weights which, struct dit *dit)
{
    const struct binding *from = dit_file_choose(file, which);
    const struct layout *layout = dit_get_layout(dit);
    float *values = from ? mem_new(layout_largest(layout), sizeof *values) : NULL;
    int rc = values ? load_positions(file, from, dit) : -1;
    for (size_t i = 0; rc == 0 && i < layout->n_params; i++) {
        if (dit_is_mapped(dit, &layout->params[i]))
            continue;
        rc = binding_read(from, i, values);
        if (rc == 0)
            rc = dit_set_param(dit, &layout->params[i], values);
    }
    free(values);
    return rc;
}

int dit_file_initial_weights(const struct dit_file *file, const struct layout *layout,
                             float *weights, bool *new_classes)
{
    const struct binding *from = dit_file_choose(file, DIT_WEIGHTS_EMA);
    *new_classes = false;
    if (from && layout->n_params != file->layout.n_params)
        return error_set(STATUS_DATA, "%s has %zu blocks, the model to be trained has more or less",
                         file->path, file->config.depth);
    for (size_t i = 0; from && i < layout->n_params; i++) {
        const struct param *param = &layout->params[i], *found = &file->layout.params[i];
        char expected[128], shape[128];
        if (strcmp(param->name, "y_embedder.embedding_table.weight") == 0 &&
            param->shape[0] != found->shape[0] && param->shape[1] == found->shape[1]) {
            *new_classes = true;
            continue;
        }
        if (memcmp(found->shape, param->shape, param->rank * sizeof *param->shape) != 0)
            return error_set(STATUS_DATA, "%s: tensor %s has shape %s, expected %s", file->path,
                             param->name,
                             shape_text(found->shape, found->rank, shape, sizeof shape),
                             shape_text(param->shape, param->rank, expected, sizeof expected));
        if (binding_read(from, i, weights + param->offset) < 0)
            return -1;
    }
    return from ? 0 : -1;
}

int dit_file_restore(const struct dit_file *file, struct trainer *trainer)
{
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    uint64_t updates;
    if (!file->has_training)
        return error_set(STATUS_DATA, "%s holds weights but no optimizer state to resume from",
                         file->path);
    if (dit_file_updates(file, &updates) < 0)
        return -1;
    float *values = mem_new(layout_largest(layout), sizeof *values);
    int rc = values ? 0 : -1;
    for (int array = 0; rc == 0 && array < TRAINER_ARRAYS; array++)
        for (size_t i = 0; rc == 0 && i < layout->n_params; i++) {
            rc = binding_read(&file->arrays[array], i, values);
            if (rc == 0)
                trainer_set(trainer, array, &layout->params[i], values);
        }
    free(values);
    if (rc == 0) {
        trainer_weights_changed(trainer);
        trainer_set_updates(trainer, updates);
    }
    return rc;
}
