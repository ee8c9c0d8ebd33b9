// Finds a DiT's weights and training state in files of several kinds. SPDX-License-Identifier: MIT
#include "formats/weights/dit-file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/weights/diffusers.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define IMAGENET_CLASSES 1000
#define POSITIONS_MAX    (16 << 20) // bytes of a table, beside the size of the weights

// What else may stand beside a set of weights, below the same beginning.
static const char *const beside[] = {"pos_embed", "model.",      "ema.",
                                     "opt.",      "state_dict.", "projectors."};
#define BESIDE (sizeof beside / sizeof *beside)

// The beginning of the names of the set that tells the sizes.
static const char *main_prefix(const struct dit_file *file)
{
    return file->sets.has_ema ? file->sets.ema : file->sets.model;
}

// The tensor that holds a parameter or its first part; NULL without an error.
static const struct weight *find_tensor(const struct dit_file *file, const char *prefix,
                                        const char *param)
{
    char name[96], full[DIT_PREFIX_SIZE + sizeof name];
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

// Finds the file's table of positions (1,T,D); NULL if there is none: it is not trained, so files
// may leave it out. -1 with an error if it can't be read.
static int find_positions(const struct dit_file *file, const char *prefix,
                          const struct weight **positions)
{
    char name[DIT_PREFIX_SIZE + 32];
    snprintf(name, sizeof name, "%s%s", prefix,
             file->style == NAMING_OWN ? "pos_embed" : "pos_embed.pos_embed");
    *positions = weights_find(&file->weights, name);
    const char *type = weights_unsupported(&file->weights, name);
    return type ? error_set(STATUS_DATA, "%s: tensor %s is of type %s, which is not supported",
                            file->path, name, type)
                : 0;
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
    const json_t *said = value ? NULL : json_object_get(config, config_key);
    if (said && !json_is_null(said) && (!json_is_integer(said) || json_integer_value(said) < 0))
        return error_set(STATUS_DATA, "config.json beside %s: %s is not a whole number", file->path,
                         config_key);
    *number = said ? (size_t)json_integer_value(said) : (size_t)value;
    return 0;
}

// The config.json may be there for another file.
static int check_head_size(const struct dit_file *file, const json_t *config)
{
    const struct dit_config *c = &file->config;
    const json_t *size = json_object_get(config, "attention_head_dim");
    if (!c->heads || !json_is_integer(size) || weights_get(&file->weights, "num_heads") ||
        (double)json_integer_value(size) * (double)c->heads == (double)c->hidden)
        return 0;
    return error_set(
        STATUS_DATA,
        "config.json beside %s is that of another model: %zu heads of %" JSON_INTEGER_FORMAT
        ", where the width is %zu; give --heads",
        file->path, c->heads, json_integer_value(size), c->hidden);
}

static int choose_heads(struct dit_file *file, const json_t *config, const struct dit_hints *hints)
{
    struct dit_config *c = &file->config;
    if (read_size(file, config, "num_heads", "num_attention_heads", &c->heads) < 0)
        return -1;
    if (hints->heads && c->heads && hints->heads != c->heads)
        return error_set(STATUS_DATA, "%s states that its attention has %zu heads, not %zu",
                         file->path, c->heads, hints->heads);
    if (!hints->heads && check_head_size(file, config) < 0)
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

// A number alone must not make a table that dwarfs the weights.
static int check_side(const struct dit_file *file)
{
    const struct dit_config *c = &file->config;
    double side = (double)c->input_size / (double)c->patch;
    double size = side * side * (double)c->hidden * sizeof(float);
    if (size <= (double)weights_file_size(&file->weights) + POSITIONS_MAX)
        return 0;
    return error_set(STATUS_DATA,
                     "%s states that it is for latents of %zux%zu, whose table of positions would "
                     "take %.0f MB, far more than the weights; give --image-size %zu to allow it",
                     file->path, c->input_size, c->input_size, size / 1e6, 8 * c->input_size);
}

static int choose_side(struct dit_file *file, const char *prefix, const json_t *config,
                       const struct dit_hints *hints)
{
    struct dit_config *c = &file->config;
    const struct weight *positions;
    if (find_positions(file, prefix, &positions) < 0 ||
        (positions && read_side(file, positions) < 0))
        return -1;
    if (!positions && read_size(file, config, "input_size", "sample_size", &c->input_size) < 0)
        return -1;
    if (hints->image_size) // a table of positions can be made for any size
        c->input_size = hints->image_size / 8;
    else if (!positions && check_side(file) < 0)
        return -1;
    if (!c->input_size && hints->other_data)
        c->input_size = c->patch;
    return c->input_size ? 0
                         : error_set(STATUS_DATA,
                                     "%s does not say for which size of image it was made: no "
                                     "pos_embed, no config.json beside it; give --image-size",
                                     file->path);
}

// The table of classes has a row for each, and one for the null class. A training without guidance
// makes it without the latter, which only the number of classes tells.
static int read_classes(struct dit_file *file, const json_t *config, const struct weight *table)
{
    size_t rows = table->shape[0], said = 0;
    if (read_size(file, config, "num_classes", "num_embeds_ada_norm", &said) < 0 ||
        (!said && read_size(file, NULL, "args.num_classes", "", &said) < 0))
        return -1;
    const bool none = weights_get(&file->weights, "num_classes") && !said; // trained on no labels
    if ((said || none) && said != rows && said != rows - 1)
        return error_set(STATUS_DATA, "%s: tensor %s has %zu rows, expected %zu for %zu classes",
                         file->path, table->name, rows, said + 1, said);
    file->config.no_null_class = said && said == rows;
    file->config.classes = file->config.no_null_class ? rows : rows - 1;
    file->classes_said = said || none || rows - 1 == IMAGENET_CLASSES;
    return 0;
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
    if (read_classes(file, config, table) < 0)
        return -1;
    c->depth = find_depth(file, prefix);
    const struct weight *bias = require_tensor(file, prefix, "final_layer.linear.bias", 1);
    if (!bias)
        return -1;
    c->learn_sigma = bias->shape[0] != c->patch * c->patch * c->channels;
    if (choose_heads(file, config, hints) < 0 || choose_side(file, prefix, config, hints) < 0)
        return -1;
    if (dit_config_check(c) < 0) // the file is at fault here, not the usage
        return error_set(STATUS_DATA, "%s: %s", file->path, error_message());
    return 0;
}

static int bind_set(struct dit_file *file, int array, const char *prefix)
{
    const char *ignored[BESIDE + DIT_SETS_MAX + 1] = {NULL};
    size_t n = 0;
    for (; n < BESIDE; n++)
        ignored[n] = beside[n];
    for (size_t i = 0; file->sets.others[i]; i++)
        if (*file->sets.others[i])
            ignored[n++] = file->sets.others[i];
    const struct weight *positions;
    if (find_positions(file, prefix, &positions) < 0)
        return -1;
    if (positions && positions->rank == 3 && positions->shape[0] == 1 &&
        positions->shape[1] == dit_tokens(&file->config) &&
        positions->shape[2] == file->config.hidden)
        file->positions[array] = positions;
    return binding_make(&file->arrays[array], &file->naming, &file->weights, prefix, ignored);
}

// Under the names of dit-train.
static int bind_moments(struct dit_file *file, int array, const char *prefix)
{
    return find_tensor(file, prefix, "x_embedder.proj.weight") ? bind_set(file, array, prefix) : 0;
}

static bool has_numbered(const struct dit_file *file)
{
    for (size_t i = 0; i < file->weights.n_weights; i++)
        if (strncmp(file->weights.all[i].name, "opt.state.", 10) == 0)
            return true;
    return false;
}

// Another optimizer, or other groups of parameters, are no obstacle to using the weights.
static int bind_optimizer(struct dit_file *file)
{
    const struct binding *model = &file->arrays[TRAINER_MODEL];
    struct binding *first = &file->arrays[TRAINER_EXP_AVG],
                   *second = &file->arrays[TRAINER_EXP_AVG_SQ];
    if (!has_numbered(file) || !model->tensors)
        return 0;
    if (binding_number(first, model, file->sets.model, "opt.state.", "exp_avg") == 0 &&
        binding_number(second, model, file->sets.model, "opt.state.", "exp_avg_sq") == 0)
        return 0;
    binding_free(first);
    binding_free(second);
    if (error_status() != STATUS_DATA)
        return -1;
    snprintf(file->foreign_optimizer, sizeof file->foreign_optimizer, "%s", error_message());
    return 0;
}

// The further averages of dit-train, as the metadata lists them.
static int bind_averages(struct dit_file *file)
{
    const char *text = weights_get(&file->weights, "averages");
    const char *end = NULL;
    char prefix[DIT_AVERAGE_SIZE];
    struct average average;
    for (; text && *text; text = *end == ',' ? end + 1 : end) {
        if (average_parse(&average, text, &end) < 0 || (*end && *end != ',') ||
            file->n_more == TRAINER_AVERAGES_MAX)
            return error_set(
                STATUS_DATA, "%s: metadata averages is \"%.60s\", expected up to %d averages",
                file->path, weights_get(&file->weights, "averages"), TRAINER_AVERAGES_MAX);
        dit_file_average_prefix(&average, prefix);
        if (!find_tensor(file, prefix, "x_embedder.proj.weight"))
            continue; // convert-weights has left it out
        if (bind_set(file, TRAINER_ARRAYS + (int)file->n_more, prefix) < 0)
            return -1;
        file->more[file->n_more++] = average;
    }
    return 0;
}

static int bind_all(struct dit_file *file)
{
    const struct dit_sets *sets = &file->sets;
    if (dit_layout_init(&file->layout, &file->config) < 0 ||
        naming_make(&file->naming, &file->layout, file->style, file->config.depth) < 0)
        return -1;
    if ((sets->has_ema && bind_set(file, TRAINER_EMA, sets->ema) < 0) ||
        (sets->has_model && bind_set(file, TRAINER_MODEL, sets->model) < 0) ||
        (*sets->list && binding_list(&file->arrays[TRAINER_EMA], &file->arrays[TRAINER_MODEL],
                                     sets->list, file->positions[TRAINER_MODEL]) < 0) ||
        bind_moments(file, TRAINER_EXP_AVG, "opt.exp_avg.") < 0 ||
        bind_moments(file, TRAINER_EXP_AVG_SQ, "opt.exp_avg_sq.") < 0 || bind_optimizer(file) < 0)
        return -1;
    if (bind_averages(file) < 0)
        return -1;
    // A single set is both, unless its name says that it is averaged.
    if (sets->has_ema && !sets->has_model && !*sets->ema && bind_set(file, TRAINER_MODEL, "") < 0)
        return -1;
    if (file->arrays[TRAINER_EMA].tensors && !file->positions[TRAINER_EMA])
        file->positions[TRAINER_EMA] = file->positions[TRAINER_MODEL];
    file->has_training = true;
    for (int array = 0; array < TRAINER_ARRAYS; array++)
        file->has_training = file->has_training && file->arrays[array].tensors;
    return 0;
}

// Kin of the DiT normalise queries and keys.
static int refuse_norms(const struct dit_file *file)
{
    for (size_t i = 0; i < file->weights.n_weights; i++) {
        const char *name = file->weights.all[i].name;
        if (strstr(name, ".attn.q_norm.") || strstr(name, ".attn.k_norm."))
            return error_set(STATUS_DATA,
                             "%s: tensor %s: a model that normalises its queries and keys is not "
                             "supported",
                             file->path, name);
    }
    return 0;
}

// Puts the names that diffusers has for the classes where dit-train has them.
static int name_classes(struct dit_file *file, const json_t *config)
{
    json_t *list;
    if (weights_get(&file->weights, "classes"))
        return 0;
    if (diffusers_classes(file->path, config, file->config.classes, &list) < 0)
        return -1;
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    int rc = list && (!text ||
                      json_object_set_new(file->weights.metadata, "classes", json_string(text)) < 0)
                 ? error_set(STATUS_INTERNAL, "no memory for the names of the classes")
                 : 0;
    free(text);
    json_decref(list);
    return rc;
}

static int open_sets(struct dit_file *file, const json_t *config, const struct dit_hints *hints)
{
    if (dit_sets_find(&file->sets, &file->weights) < 0)
        return -1;
    file->style = file->sets.style;
    for (size_t i = 0; file->sets.others[i]; i++)
        if (weights_join_blocks(&file->weights, file->sets.others[i],
                                find_depth(file, file->sets.others[i])) < 0)
            return error_prefix("%s", file->path);
    if (read_config(file, main_prefix(file), config, hints) < 0 ||
        dit_objective_read(&file->objective, &file->weights, file->config.learn_sigma,
                           &hints->objective) < 0 ||
        refuse_norms(file) < 0 || bind_all(file) < 0)
        return -1;
    return file->style == NAMING_OWN ? 0 : name_classes(file, config);
}

// The file that is meant by a file, the folder of a run of dit-train, or a folder of diffusers.
static char *find_file(const char *path)
{
    char *latest = mem_printf("%s/latest.safetensors", path);
    if (!latest || access(latest, F_OK) == 0)
        return latest;
    free(latest);
    char *file = diffusers_find(path, "transformer");
    if (!file && access(path, F_OK) == 0)
        error_set(error_status(), "%s, or the latest.safetensors of a run", error_message());
    return file;
}

int dit_file_open(struct dit_file *file, const char *path, const struct dit_hints *hints)
{
    static const struct dit_hints none;
    *file = (struct dit_file){.path = find_file(path)};
    if (!file->path)
        return -1;
    if (weights_open(&file->weights, file->path) < 0) {
        free(file->path);
        return -1;
    }
    json_t *config = NULL;
    int rc = diffusers_config(file->path, &config);
    if (rc == 0)
        rc = open_sets(file, config, hints ? hints : &none);
    json_decref(config);
    if (rc < 0)
        dit_file_close(file);
    return rc;
}

void dit_file_close(struct dit_file *file)
{
    for (int array = 0; array < TRAINER_ARRAYS_MAX; array++)
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
    if (!step || weight_count(step) != 1)
        return dit_file_number(file, weights_get(&file->weights, first) ? first : "updates",
                               updates);
    if (weight_read_floats(step, 0, 1, &value) < 0)
        return error_prefix("%s", file->path);
    if (!(value >= 0 && value <= 0x1p53f) || value != floorf(value))
        return error_set(STATUS_DATA, "%s: tensor %s is %g, expected a whole number", file->path,
                         first, (double)value);
    *updates = (uint64_t)value;
    return 0;
}

double dit_file_ema_start(const struct dit_file *file)
{
    const char *text = weights_get(&file->weights, "ema_start");
    const char *decay = weights_get(&file->weights, "setting.ema-decay");
    uint64_t updates;
    if (text)
        return strtod(text, NULL);
    if (!file->has_training || dit_file_updates(file, &updates) < 0)
        return 0;
    return pow(decay ? strtod(decay, NULL) : trainer_defaults.ema_decay, (double)updates);
}

static int refuse_average(const struct dit_file *file, const struct average *average,
                          const char *where)
{
    return error_set(STATUS_DATA, "%s has no average of the weights with the %s %g%s", file->path,
                     average->width > 0 ? "width" : "decay",
                     average->width > 0 ? average->width : average->decay, where);
}

int dit_file_parse_which(const struct dit_file *file, const char *text, enum dit_weights *which)
{
    const char *first = weights_get(&file->weights, "setting.ema-decay"), *end;
    const bool exponential = strncmp(text, "ema:", 4) == 0;
    struct average average;
    *which = strcmp(text, "model") == 0 ? DIT_WEIGHTS_MODEL : DIT_WEIGHTS_EMA;
    if (*which == DIT_WEIGHTS_MODEL || strcmp(text, "ema") == 0)
        return 0;
    if (average_parse(&average, text + (exponential ? 4 : 0), &end) < 0 || *end ||
        exponential != !(average.width > 0))
        return error_set(STATUS_USAGE,
                         "--which %.40s: expected ema, model, ema:DECAY or power:WIDTH", text);
    if (exponential && first && strtod(first, NULL) == average.decay)
        return 0;
    for (size_t i = 0; i < file->n_more; i++)
        if (average_equals(&file->more[i], &average)) {
            *which = (enum dit_weights)(DIT_WEIGHTS_MORE + i);
            return 0;
        }
    return refuse_average(file, &average, "");
}

const struct binding *dit_file_choose(const struct dit_file *file, enum dit_weights which)
{
    int array = which == DIT_WEIGHTS_MODEL ? TRAINER_MODEL
                : which == DIT_WEIGHTS_EMA ? TRAINER_EMA
                                           : TRAINER_ARRAYS + (int)which - DIT_WEIGHTS_MORE;
    if (file->arrays[array].tensors)
        return &file->arrays[array];
    if (array == TRAINER_EMA)
        error_set(STATUS_DATA,
                  "%s: its averaged weights, such as %s, are not named as those of any known "
                  "program (--which model: the weights of the last step)",
                  file->path, file->sets.unread);
    else
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

// Copies the rows of the class table that mean the same to the model as to the file, and leaves the
// others.
static int initial_classes(const struct dit_file *file, const struct binding *from, size_t i,
                           const struct dit_config *model, bool new_classes, float *table)
{
    const struct dit_config *c = &file->config;
    size_t D = c->hidden;
    float *found = mem_new(file->layout.params[i].count, sizeof *found);
    int rc = found ? binding_read(from, i, found) : -1;
    if (rc == 0 && !new_classes)
        memcpy(table, found, c->classes * D * sizeof *table);
    if (rc == 0 && !c->no_null_class && !model->no_null_class)
        memcpy(table + model->classes * D, found + c->classes * D, D * sizeof *table);
    free(found);
    return rc;
}

int dit_file_initial_weights(const struct dit_file *file, const struct dit_config *model,
                             const struct layout *layout, bool new_classes, float *weights)
{
    const struct binding *from = dit_file_choose(file, DIT_WEIGHTS_EMA);
    if (from && layout->n_params != file->layout.n_params)
        return error_set(STATUS_DATA,
                         "%s has %zu blocks, and the model to be trained another number",
                         file->path, file->config.depth);
    for (size_t i = 0; from && i < layout->n_params; i++) {
        const struct param *param = &layout->params[i], *found = &file->layout.params[i];
        char expected[128], shape[128];
        const bool table = strcmp(param->name, "y_embedder.embedding_table.weight") == 0;
        if (memcmp(found->shape + table, param->shape + table,
                   (param->rank - table) * sizeof *param->shape) != 0)
            return error_set(STATUS_DATA, "%s: tensor %s has shape %s, expected %s", file->path,
                             param->name,
                             shape_text(found->shape, found->rank, shape, sizeof shape),
                             shape_text(param->shape, param->rank, expected, sizeof expected));
        float *values = weights + param->offset;
        if ((table ? initial_classes(file, from, i, model, new_classes, values)
                   : binding_read(from, i, values)) < 0)
            return -1;
    }
    return from ? 0 : -1;
}

// A run keeps the averages that it was begun with, of which the first alone can have another decay
// from then on, unless there are others to take it for.
static int compare_averages(const struct dit_file *file, const struct trainer *trainer)
{
    const struct trainer_settings *settings = trainer_get_settings(trainer);
    const char *first = weights_get(&file->weights, "setting.ema-decay");
    if (file->n_more && first && strtod(first, NULL) != settings->ema_decay)
        return error_set(STATUS_DATA,
                         "%s has averages of the weights with the decays %s, of which the first "
                         "can't become %g",
                         file->path, first, settings->ema_decay);
    for (size_t i = 0; i < settings->n_more; i++)
        if (i >= file->n_more || !average_equals(&settings->more[i], &file->more[i]))
            return refuse_average(file, &settings->more[i], " in its place");
    return 0;
}

int dit_file_restore(const struct dit_file *file, struct trainer *trainer)
{
    const struct layout *layout = dit_get_layout(trainer_model(trainer));
    uint64_t updates;
    if (dit_config_compare(&file->config, file->path, dit_get_config(trainer_model(trainer)),
                           "the model to be trained") < 0)
        return -1;
    if (!file->has_training)
        return error_set(STATUS_DATA, "%s holds weights but no optimizer state to resume from%s%s",
                         file->path, *file->foreign_optimizer ? ": " : "", file->foreign_optimizer);
    if (dit_file_updates(file, &updates) < 0 || compare_averages(file, trainer) < 0)
        return -1;
    float *values = mem_new(layout_largest(layout), sizeof *values);
    int rc = values ? 0 : -1;
    for (size_t array = 0; rc == 0 && array < trainer_arrays(trainer); array++)
        for (size_t i = 0; rc == 0 && i < layout->n_params; i++) {
            rc = binding_read(&file->arrays[array], i, values);
            if (rc == 0)
                trainer_set(trainer, array, &layout->params[i], values);
        }
    free(values);
    if (rc == 0) {
        trainer_weights_changed(trainer);
        trainer_set_updates(trainer, updates);
        trainer_set_ema_start(trainer, dit_file_ema_start(file));
    }
    return rc;
}
