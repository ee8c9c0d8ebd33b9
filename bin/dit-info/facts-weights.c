// What a file of weights holds: which network, of which sizes, and how it was trained.
// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>

#include "bin/dit-info/facts.h"
#include "formats/containers/checksum.h"
#include "formats/weights/diffusers.h"
#include "formats/weights/dit-file.h"
#include "formats/weights/inception-file.h"
#include "formats/weights/kl-file.h"
#include "formats/weights/torch-file.h"
#include "formats/weights/weights-index.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define SETTING "setting."

// What the metadata say of the container, of the model's sizes and of the numbers below.
static bool is_told(const char *key)
{
    static const char *const told[] = {
        "format",      "version",     "kind",        "hidden_size",
        "depth",       "num_heads",   "patch_size",  "input_size",
        "in_channels", "num_classes", "null_class",  "learn_sigma",
        "parameters",  "step",        "position",    "updates",
        "objective",   "path",        "prediction",  "time",
        CHECKSUM_KEY,  "since_log",   "skip_window", CHECKSUM_PARTS_KEY};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (strcmp(key, told[i]) == 0)
            return true;
    return strncmp(key, SETTING, strlen(SETTING)) == 0 || strncmp(key, "opt.", 4) == 0;
}

static bool is_in_container(const char *key)
{
    return strncmp(key, CHECKSUM_KEY, strlen(CHECKSUM_KEY)) == 0;
}

static size_t count_in_layout(const struct layout *layout)
{
    size_t n = 0;
    for (size_t i = 0; i < layout->n_params; i++)
        n += layout->params[i].count;
    return n;
}

static const char *format_name(const struct mapping *file, size_t n_files)
{
    return n_files > 1                             ? "safetensors or PyTorch, in several files"
           : torch_is_file(file->data, file->size) ? "PyTorch"
                                                   : "safetensors";
}

// The tensors, and how many there are of each type.
static void add_tensors(json_t *facts, const struct weights *weights)
{
    json_t *tensors = json_array(), *types = json_object(), *value;
    const char *key;
    for (size_t i = 0; i < weights->n_weights; i++) {
        const struct weight *w = &weights->all[i];
        const char *type = dtype_name(w->dtype);
        json_int_t before = json_integer_value(json_object_get(types, type));
        json_object_set_new(types, type, json_integer(before + 1));
        json_array_append_new(tensors, facts_tensor(w->name, w->dtype, w->shape, w->rank));
    }
    json_object_foreach(weights->unsupported, key, value)
    {
        const char *type = json_string_value(value);
        json_int_t before = json_integer_value(json_object_get(types, type));
        json_object_set_new(types, type, json_integer(before + 1));
    }
    json_object_set_new(facts, "types", types);
    json_object_set_new(facts, "tensors", tensors);
}

// A number from the metadata, if it is one.
static void add_number_fact(json_t *facts, const char *name, const struct weights *weights,
                            const char *key)
{
    const char *text = weights_get(weights, key);
    char *end;
    double value = text ? strtod(text, &end) : -1;
    if (text && *text && !*end && value >= 0 && value <= 0x1p53)
        json_object_set_new(facts, name, json_integer((json_int_t)value));
}

static void add_settings(json_t *facts, const struct weights *weights)
{
    json_t *settings = json_object(), *value;
    const char *key;
    json_object_foreach(weights->metadata, key, value)
    {
        if (strncmp(key, SETTING, strlen(SETTING)) == 0)
            json_object_set(settings, key + strlen(SETTING), value);
    }
    if (json_object_size(settings))
        json_object_set(facts, "settings", settings);
    json_decref(settings);
}

// Which of --which the file has, and whether training can go on from it.
static json_t *list_sets(const struct dit_file *file)
{
    json_t *sets = json_array();
    if (file->arrays[TRAINER_EMA].tensors)
        json_array_append_new(sets, json_string("ema"));
    if (file->sets.has_model)
        json_array_append_new(sets, json_string("model"));
    for (size_t i = 0; i < file->n_more; i++) {
        char text[AVERAGE_TEXT_SIZE];
        average_text(&file->more[i], text);
        json_array_append_new(sets,
                              json_sprintf("%s%s", file->more[i].width > 0 ? "" : "ema:", text));
    }
    if (file->has_training)
        json_array_append_new(sets, json_string("optimizer"));
    return sets;
}

static void add_dit(json_t *facts, const struct dit_file *file)
{
    const struct dit_config *c = &file->config;
    char name[96];
    json_t *objective = json_object();
    dit_config_text(c, name, sizeof name);
    for (size_t i = 0; i < OBJECTIVE_FIELDS; i++) {
        const char *field, *text = objective_text(&file->objective, i, &field);
        if (text)
            json_object_set_new(objective, i ? field : "kind", json_string(text));
    }
    json_object_set_new(facts, "model", json_string(name));
    json_object_set_new(facts, "parameters",
                        json_integer((json_int_t)count_in_layout(&file->layout)));
    json_object_set_new(facts, "sizes",
                        json_pack("{sI sI sI sI sI sI sI sb sb}", "depth", (json_int_t)c->depth,
                                  "hidden_size", (json_int_t)c->hidden, "num_heads",
                                  (json_int_t)c->heads, "patch_size", (json_int_t)c->patch,
                                  "input_size", (json_int_t)c->input_size, "in_channels",
                                  (json_int_t)c->channels, "num_classes", (json_int_t)c->classes,
                                  "null_class", !c->no_null_class, "learn_sigma", c->learn_sigma));
    json_object_set_new(facts, "objective", objective);
    json_object_set_new(facts, "weights", list_sets(file));
    add_number_fact(facts, "step", &file->weights, "step");
    add_number_fact(facts, "updates", &file->weights, "updates");
    add_number_fact(facts, "images_seen", &file->weights, "position");
    facts_add_metadata(facts, file->weights.metadata, is_told);
    add_settings(facts, &file->weights);
}

static int try_dit(json_t *facts, const char *path)
{
    struct dit_file file;
    if (dit_file_open(&file, path, NULL) < 0)
        return -1;
    add_dit(facts, &file);
    dit_file_close(&file);
    return 0;
}

static int try_autoencoder(json_t *facts, const char *path)
{
    struct kl_file file;
    if (kl_file_open(&file, path) < 0)
        return -1;
    const struct kl_config *c = &file.config;
    json_t *channels = json_array();
    for (size_t i = 0; i < c->levels; i++)
        json_array_append_new(channels, json_integer((json_int_t)c->channels[i]));
    json_object_set_new(facts, "parameters",
                        json_integer((json_int_t)count_in_layout(&file.layout)));
    json_object_set_new(facts, "sizes",
                        json_pack("{sI sI sI so}", "downsample",
                                  (json_int_t)((size_t)1 << (c->levels - 1)), "latent_channels",
                                  (json_int_t)c->latent_channels, "resnets", (json_int_t)c->resnets,
                                  "channels", channels));
    json_object_set_new(facts, "scaling_factor", json_real(c->scale));
    facts_add_metadata(facts, file.weights.metadata, is_in_container);
    kl_file_close(&file);
    return 0;
}

static int try_inception(json_t *facts, const char *path)
{
    struct inception_file file;
    if (inception_file_open(&file, path) < 0)
        return -1;
    json_object_set_new(facts, "parameters",
                        json_integer((json_int_t)count_in_layout(&file.layout)));
    json_object_set_new(facts, "width", json_integer((json_int_t)file.width));
    json_object_set_new(facts, "last_layer", json_boolean(file.fc_weight));
    facts_add_metadata(facts, file.weights.metadata, is_in_container);
    inception_file_close(&file);
    return 0;
}

// The networks, and ends of the names of tensors that tell them.
static const struct network {
    const char *kind;
    int (*try)(json_t *facts, const char *path);
    const char *markers[4];
} networks[] = {
    {"dit", try_dit, {"x_embedder.proj.weight", "pos_embed.proj.weight"}},
    {"autoencoder",
     try_autoencoder,
     {"encoder.mid_block.attentions.0.to_q.weight", "encoder.mid_block.attentions.0.query.weight",
      "encoder.mid.attn_1.q.weight"}},
    {"inception", try_inception, {INCEPTION_MARKER}},
};

static bool ends_in(const char *name, const char *end)
{
    size_t length = strlen(name), n = strlen(end);
    return length >= n && strcmp(name + length - n, end) == 0 &&
           (length == n || name[length - n - 1] == '.');
}

static const struct network *recognise(const struct weights *weights)
{
    for (size_t n = 0; n < sizeof networks / sizeof *networks; n++)
        for (const char *const *marker = networks[n].markers; *marker; marker++)
            for (size_t i = 0; i < weights->n_weights; i++)
                if (ends_in(weights->all[i].name, *marker))
                    return &networks[n];
    return NULL;
}

// Compares the members of PyTorch's archive with their checksums.
static int check_zip_sums(const char *path, const struct mapping *file)
{
    struct zip_directory zip;
    if (zip_read_directory(&zip, file->data, file->size, false) < 0)
        return error_prefix("%s", path);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < zip.n; i++) {
        const struct zip_member *m = &zip.members[i];
        char name[ERROR_SHOWN_SIZE];
        if (checksum_add(0, m->data, m->size) != m->crc)
            rc = error_set(STATUS_DATA, "%s: %s: the checksum is wrong: the data is damaged", path,
                           error_shown(m->name, m->name_size, name));
    }
    zip_free_directory(&zip);
    return rc;
}

// Whether the whole file agrees with its checksums; false, and a message, if it has none. -1 with
// an error.
static int check_sums(const struct weights *weights, const struct mapping *file)
{
    const bool zip = file->size >= 4 && memcmp(file->data, "PK\3\4", 4) == 0;
    if (zip ? check_zip_sums(weights->path, file) < 0 : weights_check_file(weights) < 0)
        return -1;
    if (zip || weights_get(weights, CHECKSUM_KEY))
        return true;
    tool_note("%s: has no checksums to compare", weights->path);
    return false;
}

static json_t *describe_weights(const struct weights *weights, const struct mapping *file,
                                bool check)
{
    const struct network *network = recognise(weights);
    const char *kind = weights_get(weights, "kind");
    int checked = check ? check_sums(weights, file) : false;
    if (checked < 0)
        return NULL;
    const bool checkpoint = kind && strcmp(kind, "dit-checkpoint") == 0;
    json_t *facts = json_pack("{s:s, s:s}", "kind",
                              checkpoint ? kind
                              : network  ? network->kind
                                         : "weights",
                              "format", format_name(file, weights->n_files));
    if (!network || network->try(facts, weights->path) < 0) {
        if (network && error_status() != STATUS_DATA && error_status() != STATUS_USAGE) {
            json_decref(facts);
            return NULL;
        }
        if (network)
            json_object_set_new(facts, "problem", json_string(error_message()));
        facts_add_metadata(facts, weights->metadata, is_in_container);
    }
    add_tensors(facts, weights);
    json_object_set_new(facts, "bytes", json_integer((json_int_t)weights_file_size(weights)));
    json_object_set_new(facts, "checked", json_boolean(checked));
    return facts;
}

// The file that is meant by a file, or by a folder of diffusers. NULL with an error.
static char *find_weights_file(const char *path)
{
    struct error first;
    char *file = diffusers_find(path, "transformer");
    if (file)
        return file;
    error_save(&first);
    if (!(file = diffusers_find(path, "vae")))
        error_restore(&first);
    return file;
}

json_t *facts_of_weights(const char *path, bool check)
{
    struct weights weights;
    struct mapping mapping;
    char *file = find_weights_file(path);
    json_t *facts = NULL;
    if (file && weights_open(&weights, file) == 0) {
        if (file_map(file, &mapping) == 0) {
            facts = describe_weights(&weights, &mapping, check);
            file_unmap(&mapping);
        }
        weights_close(&weights);
    }
    free(file);
    return facts;
}
