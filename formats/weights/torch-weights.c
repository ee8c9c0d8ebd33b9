// Walks the dicts of a saved value and names the tensors and metadata in them.
// SPDX-License-Identifier: MIT
#include "formats/weights/torch-weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"

#define DEPTH_MAX   64
#define ENTRIES_MAX ((size_t)1 << 20) // in all dicts; a shared dict counts each time it is met
#define SHARED_MAX  4

enum kind { OPAQUE, TENSOR, TYPED_TENSOR, PARAMETER, DICT, NAMESPACE };

static const struct {
    const char *module, *name;
    enum kind kind;
} classes[] = {
    {"torch._utils", "_rebuild_tensor", TENSOR},
    {"torch._utils", "_rebuild_tensor_v2", TENSOR},
    {"torch._utils", "_rebuild_tensor_v3", TYPED_TENSOR},
    {"torch._utils", "_rebuild_parameter", PARAMETER},
    {"torch._utils", "_rebuild_parameter_with_state", PARAMETER},
    {"torch.nn.parameter", "Parameter", PARAMETER},
    {"collections", "OrderedDict", DICT},
    {"collections", "defaultdict", DICT},
    {"argparse", "Namespace", NAMESPACE},
};

struct walk {
    const struct torch_file *file;
    size_t file_size;
    struct weights_list *list;
    size_t entries, depth;
    size_t size;                     // bytes of all tensors, each for itself
    char path[WEIGHTS_NAME_MAX + 1]; // the keys that lead to the present value, terminated
    size_t path_size;
    size_t skip;      // characters at the path's start that metadata leaves out of its keys
    const char *flaw; // why the path cannot be a name, or NULL
};

static enum kind kind_of(const struct pickle_value *value)
{
    if (value->type == PICKLE_CALL)
        for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
            if (pickle_is_global(&value->call->callee, classes[i].module, classes[i].name))
                return classes[i].kind;
    return OPAQUE;
}

static bool is_tensor(enum kind kind)
{
    return kind == TENSOR || kind == TYPED_TENSOR || kind == PARAMETER;
}

// The keys and values of a dict, or of an object that stands for one; NULL if it is neither.
static const struct pickle_list *dict_of(const struct pickle_value *value)
{
    if (value->type == PICKLE_DICT)
        return value->list;
    enum kind kind = kind_of(value);
    if (kind == DICT)
        return &value->call->items;
    return kind == NAMESPACE && value->call->state.type == PICKLE_DICT ? value->call->state.list
                                                                       : NULL;
}

// Reads an argument that is a tuple of integers, none of them negative.
static int read_size_tuple(const struct pickle_value *tuple, const char *what, size_t rank,
                           size_t *out)
{
    if (tuple->type != PICKLE_TUPLE || tuple->size != rank)
        return error_set(STATUS_DATA, "expected a tuple of %zu as its %s", rank, what);
    for (size_t i = 0; i < rank; i++) {
        const struct pickle_value *item = &tuple->items[i];
        char found[PICKLE_SHOWN_SIZE];
        if (item->type != PICKLE_INT)
            return error_set(STATUS_DATA, "expected integers as its %s, found %s", what,
                             pickle_shown(item, found));
        if (item->integer < 0)
            return error_set(STATUS_DATA, "its %s holds %" PRId64 ", which is negative", what,
                             item->integer);
        out[i] = (size_t)item->integer;
    }
    return 0;
}

// All elements must lie in the storage. With strides of 0, or in storages that tensors share, any
// number of them would; so there may be no more than fit in the file, and in all tensors together
// no more than a model, its average and copies of them take.
static int check_extent(struct walk *walk, const struct weight *weight, size_t offset,
                        size_t storage_count)
{
    size_t count, size, last = offset;
    char shape[128];
    if (!shape_count(weight->shape, weight->rank, &count) ||
        !size_mul(count, dtype_size(weight->dtype), &size) || size > walk->file_size)
        return error_set(STATUS_DATA, "its shape %s takes more than the file",
                         shape_text(weight->shape, weight->rank, shape, sizeof shape));
    walk->size += size;
    if (walk->size / SHARED_MAX > walk->file_size)
        return error_set(STATUS_DATA,
                         "the tensors share their storages: together they take more than %d times "
                         "the file",
                         SHARED_MAX);
    for (size_t i = 0; count && i < weight->rank; i++) {
        size_t step;
        if (!size_mul(weight->shape[i] - 1, weight->strides[i], &step) ||
            !size_add(last, step, &last))
            return error_set(STATUS_DATA, "its strides leave its storage of %zu elements",
                             storage_count);
    }
    if (count && last >= storage_count)
        return error_set(STATUS_DATA, "its last element is number %zu of a storage of %zu", last,
                         storage_count);
    return 0;
}

// The arguments of _rebuild_tensor are storage, offset, sizes, strides and two that don't matter.
// In version 3 the storage has no type, which follows as a seventh argument. If the type is not
// supported, *unsupported is set instead of the tensor.
static int read_tensor(struct walk *walk, const struct pickle_value *value, struct weight *weight,
                       const struct pickle_value **unsupported)
{
    enum kind kind = kind_of(value);
    const struct pickle_value *args = value->call->args.items;
    struct torch_storage storage;
    char found[PICKLE_SHOWN_SIZE];
    size_t offset;
    if (value->call->args.type != PICKLE_TUPLE ||
        value->call->args.size < (kind == TYPED_TENSOR ? 7 : 4) ||
        args[0].type != PICKLE_PERSISTENT || args[1].type != PICKLE_INT || args[1].integer < 0 ||
        args[2].type != PICKLE_TUPLE)
        return error_set(STATUS_DATA, "expected a storage, a place in it, sizes and strides");
    if (torch_find_storage(walk->file, args[0].items, &storage) < 0)
        return -1;
    offset = (size_t)args[1].integer;
    *weight = (struct weight){.dtype = storage.dtype, .rank = args[2].size};
    *unsupported = storage.unsupported;
    if (kind == TYPED_TENSOR && torch_find_dtype(&args[6], &weight->dtype) < 0 &&
        torch_is_type(&args[6]))
        *unsupported = &args[6];
    if (*unsupported)
        return 0;
    if (kind == TYPED_TENSOR && torch_find_dtype(&args[6], &weight->dtype) < 0)
        return error_set(STATUS_DATA, "its type %s is not supported",
                         pickle_shown(&args[6], found));
    if (weight->rank > TENSOR_RANK_MAX)
        return error_set(STATUS_DATA, "rank %zu, at most %d is supported", weight->rank,
                         TENSOR_RANK_MAX);
    storage.count = storage.count * dtype_size(storage.dtype) / dtype_size(weight->dtype);
    if (read_size_tuple(&args[2], "shape", weight->rank, weight->shape) < 0 ||
        read_size_tuple(&args[3], "strides", weight->rank, weight->strides) < 0 ||
        check_extent(walk, weight, offset, storage.count) < 0)
        return -1;
    // The offset of a tensor without elements may lie outside its storage.
    weight->data = storage.data;
    if (weight_count(weight))
        weight->data += offset * dtype_size(weight->dtype);
    return 0;
}

static int add_tensor(struct walk *walk, const struct pickle_value *value)
{
    struct weight weight;
    const struct pickle_value *unsupported = NULL;
    char text[ERROR_SHOWN_SIZE], type[PICKLE_SHOWN_SIZE];
    error_shown(walk->path, walk->path_size, text);
    if (walk->flaw)
        return error_set(STATUS_DATA, "a tensor below \"%s\" has no name: %s", text, walk->flaw);
    if (kind_of(value) == PARAMETER) {
        const struct pickle_value *args = &value->call->args;
        if (args->type != PICKLE_TUPLE || args->size == 0 || !is_tensor(kind_of(&args->items[0])) ||
            kind_of(&args->items[0]) == PARAMETER)
            return error_set(STATUS_DATA, "tensor \"%s\": expected a parameter made of a tensor",
                             text);
        value = &args->items[0];
    }
    if (read_tensor(walk, value, &weight, &unsupported) < 0)
        return error_prefix("tensor \"%s\"", text);
    if (unsupported)
        return weights_list_add_unsupported(walk->list, walk->path, walk->path_size,
                                            pickle_shown(unsupported, type));
    return weights_list_add(walk->list, weight, walk->path, walk->path_size);
}

// Prints the fewest digits that are read back as the same number.
static void print_float(double number, char *text, size_t size)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            return;
    }
}

// Adds a number or text to the metadata. Text that C or JSON can't hold is left out.
static int add_scalar(const struct walk *walk, const struct pickle_value *value)
{
    char number[32] = "", name[ERROR_SHOWN_SIZE];
    const char *text = number, *key = walk->path + walk->skip;
    if (value->type == PICKLE_BOOL)
        text = value->truth ? "true" : "false";
    else if (value->type == PICKLE_INT)
        snprintf(number, sizeof number, "%" PRId64, value->integer);
    else if (value->type == PICKLE_FLOAT)
        print_float(value->number, number, sizeof number);
    else if (value->type == PICKLE_TEXT)
        text = value->text;
    else
        return 0;
    size_t size = value->type == PICKLE_TEXT ? value->size : strlen(text);
    json_t *metadata = walk->list->metadata, *string;
    if (weights_list_count_text(walk->list, walk->path_size + size) < 0)
        return -1;
    if (walk->flaw || memchr(text, 0, size) || !(string = json_stringn(text, size)))
        return 0;
    if (json_object_get(metadata, key)) {
        json_decref(string);
        return error_set(STATUS_DATA, "two values are named \"%s\"",
                         error_shown(key, strlen(key), name));
    }
    json_object_set_new(metadata, key, string);
    return 0;
}

static int compare_dict_keys(const void *pa, const void *pb)
{
    const struct pickle_value *a = *(const struct pickle_value *const *)pa;
    const struct pickle_value *b = *(const struct pickle_value *const *)pb;
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    if (a->type == PICKLE_INT)
        return a->integer < b->integer ? -1 : a->integer > b->integer;
    size_t size = a->size < b->size ? a->size : b->size;
    int order = size ? memcmp(a->text, b->text, size) : 0;
    return order ? order : a->size < b->size ? -1 : a->size > b->size;
}

static bool is_named(const struct pickle_value *key)
{
    return (key->type == PICKLE_TEXT && key->size <= WEIGHTS_NAME_MAX) || key->type == PICKLE_INT;
}

// Refuses a dict that has a key twice.
static int check_dict_keys(const struct walk *walk, const struct pickle_list *dict)
{
    const struct pickle_value **keys = mem_new(dict->n / 2, sizeof *keys);
    size_t n = 0;
    int rc = keys ? 0 : -1;
    for (size_t i = 0; keys && i < dict->n; i += 2)
        if (is_named(&dict->items[i]))
            keys[n++] = &dict->items[i];
    if (n)
        qsort(keys, n, sizeof *keys, compare_dict_keys);
    for (size_t i = 1; rc == 0 && i < n; i++)
        if (compare_dict_keys(&keys[i - 1], &keys[i]) == 0) {
            char key[ERROR_SHOWN_SIZE] = "", path[ERROR_SHOWN_SIZE];
            if (keys[i]->type == PICKLE_TEXT)
                error_shown(keys[i]->text, keys[i]->size, key);
            else
                snprintf(key, sizeof key, "%" PRId64, keys[i]->integer);
            rc = error_set(STATUS_DATA, "the dict \"%s\" has key \"%s\" twice",
                           error_shown(walk->path, walk->path_size, path), key);
        }
    free(keys);
    return rc;
}

// Says why a key can't be part of a name; NULL if it can.
static const char *flaw_of(const char *text, size_t size)
{
    if (size == 0)
        return "a key is empty";
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7F)
            return "a key holds control characters";
    return NULL;
}

// Appends a key to the path. One that can't be part of a name is an error only when a tensor below
// it needs one.
static void enter_key(struct walk *walk, const struct pickle_value *key)
{
    char number[32];
    const char *text = number;
    size_t size = key->size, dot = walk->path_size > 0;
    if (walk->flaw)
        return;
    if (key->type == PICKLE_TEXT)
        text = key->text;
    else
        size = (size_t)snprintf(number, sizeof number, "%" PRId64, key->integer);
    if (!is_named(key))
        walk->flaw = "a key is neither text nor an integer, or too long";
    else if (size > WEIGHTS_NAME_MAX - walk->path_size - dot)
        walk->flaw = "it would be too long";
    else
        walk->flaw = flaw_of(text, size);
    if (walk->flaw)
        return;
    if (dot)
        walk->path[walk->path_size++] = '.';
    memcpy(walk->path + walk->path_size, text, size);
    walk->path_size += size;
    walk->path[walk->path_size] = 0;
}

static int walk_dict(struct walk *walk, const struct pickle_list *dict);

// Whether it is a list of tensors and of nothing else, as those of averaged weights are.
static bool is_tensor_list(const struct pickle_value *value)
{
    size_t n = value->type == PICKLE_LIST ? value->list->n : 0, i = 0;
    while (i < n && is_tensor(kind_of(&value->list->items[i])))
        i++;
    return n > 0 && i == n;
}

// Its tensors are named by their numbers.
static int walk_list(struct walk *walk, const struct pickle_list *list)
{
    const size_t path_size = walk->path_size;
    const char *flaw = walk->flaw;
    int rc = 0;
    walk->entries += list->n;
    if (walk->entries > ENTRIES_MAX)
        return error_set(STATUS_DATA, "dicts of more than %zu values in all", ENTRIES_MAX);
    for (size_t i = 0; rc == 0 && i < list->n; i++) {
        enter_key(walk, &(struct pickle_value){PICKLE_INT, 0, .integer = (int64_t)i});
        rc = add_tensor(walk, &list->items[i]);
        walk->path_size = path_size;
        walk->path[path_size] = 0;
        walk->flaw = flaw;
    }
    return rc;
}

static int walk_value(struct walk *walk, const struct pickle_value *value)
{
    const struct pickle_list *dict = dict_of(value);
    if (dict)
        return walk_dict(walk, dict);
    if (is_tensor_list(value))
        return walk_list(walk, value->list);
    return is_tensor(kind_of(value)) ? add_tensor(walk, value) : add_scalar(walk, value);
}

static int walk_dict(struct walk *walk, const struct pickle_list *dict)
{
    const size_t path_size = walk->path_size;
    const char *flaw = walk->flaw;
    char path[ERROR_SHOWN_SIZE];
    if (walk->depth == DEPTH_MAX)
        return error_set(STATUS_DATA, "dicts in dicts more than %d deep, at \"%s\"", DEPTH_MAX,
                         error_shown(walk->path, path_size, path));
    walk->entries += dict->n / 2;
    if (walk->entries > ENTRIES_MAX)
        return error_set(STATUS_DATA, "dicts of more than %zu values in all", ENTRIES_MAX);
    if (check_dict_keys(walk, dict) < 0)
        return -1;
    int rc = 0;
    walk->depth++;
    for (size_t i = 0; rc == 0 && i < dict->n; i += 2) {
        const struct pickle_value *key = &dict->items[i];
        enter_key(walk, key);
        if (walk->depth == 1)
            walk->skip =
                pickle_is_text(key, "metadata") && dict_of(key + 1) ? strlen("metadata.") : 0;
        rc = walk_value(walk, key + 1);
        walk->path_size = path_size;
        walk->path[path_size] = 0;
        walk->flaw = flaw;
    }
    walk->depth--;
    return rc;
}

int torch_list_weights(const struct torch_file *file, size_t file_size, struct weights_list *list)
{
    struct walk walk = {.file = file, .file_size = file_size, .list = list};
    const struct pickle_value *root = &file->pickle.root;
    const struct pickle_list *dict = dict_of(root);
    char found[PICKLE_SHOWN_SIZE];
    if (!dict)
        return error_set(STATUS_DATA,
                         "expected a dict of tensors (a model's state_dict()), found %s",
                         pickle_shown(root, found));
    if (walk_dict(&walk, dict) < 0)
        return -1;
    return list->n || list->unsupported ? 0 : error_set(STATUS_DATA, "no tensor in its dicts");
}
