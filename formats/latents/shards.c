// Recognises the files of a training set, and says what differs. SPDX-License-Identifier: MIT
#include "formats/latents/shards.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "lib/base/pool.h"

int shard_mark(struct schema *schema, const struct shard *shard)
{
    if (schema_set(schema, "shard.set", "%016" PRIx64, shard->set) < 0 ||
        schema_set(schema, "shard.index", "%" PRIu64, shard->index) < 0 ||
        schema_set(schema, "shard.count", "%" PRIu64, shard->count) < 0 ||
        schema_set(schema, "shard.records", "%" PRIu64, shard->records) < 0)
        return -1;
    return 0;
}

bool shard_find(const struct tstream_file *file, struct shard *shard)
{
    const struct schema *schema = tstream_file_schema(file);
    const char *set = schema_get(schema, "shard.set");
    char *end = NULL;
    shard->set = set ? strtoull(set, &end, 16) : 0;
    return set && *set && !*end && schema_number(schema, "shard.index", &shard->index) &&
           schema_number(schema, "shard.count", &shard->count) && shard->index < shard->count &&
           schema_number(schema, "shard.records", &shard->records) &&
           shard->records == tstream_file_records(file);
}

struct shard_file {
    struct shard shard;
    const char *path;
};

static int compare_shards(const void *a, const void *b)
{
    const struct shard *x = &((const struct shard_file *)a)->shard,
                       *y = &((const struct shard_file *)b)->shard;
    if (x->set != y->set)
        return x->set < y->set ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

// Checks n shards of one set, sorted by index. `other` is a shard of another set, or NULL.
static int check_set(const struct shard_file *set, size_t n, bool partial,
                     const struct shard_file *other)
{
    for (size_t i = 1; i < n; i++)
        if (set[i].shard.index == set[i - 1].shard.index)
            return error_set(STATUS_DATA, "%s: the same shard as %s", set[i].path, set[i - 1].path);
    uint64_t count = set->shard.count, missing = 0;
    if (partial || n == count)
        return 0;
    while (missing < n && set[missing].shard.index == missing)
        missing++;
    char more[64] = "", others[300] = "";
    if (count - n > 1)
        snprintf(more, sizeof more, " and %" PRIu64 " more", count - n - 1);
    if (other)
        snprintf(others, sizeof others, "; %.200s is of another set", other->path);
    return error_set(STATUS_DATA,
                     "%s: shard-%05" PRIu64 "%s of the %" PRIu64
                     " shards of its set %s missing%s (--partial reads the others alone)",
                     set->path, missing, more, count, count - n > 1 ? "are" : "is", others);
}

int shards_check(struct tstream_file *const *files, size_t n, bool partial)
{
    struct shard_file *found = mem_new(n, sizeof *found);
    size_t n_found = 0;
    if (!found)
        return -1;
    for (size_t i = 0; i < n; i++) {
        found[n_found].path = tstream_file_name(files[i]);
        n_found += shard_find(files[i], &found[n_found].shard);
    }
    qsort(found, n_found, sizeof *found, compare_shards);
    int rc = 0;
    for (size_t begin = 0, end; begin < n_found && rc == 0; begin = end) {
        for (end = begin; end < n_found && found[end].shard.set == found[begin].shard.set; end++)
            ;
        const struct shard_file *other = begin ? found : end < n_found ? &found[end] : NULL;
        rc = check_set(&found[begin], end - begin, partial, other);
    }
    free(found);
    return rc;
}

struct hash_job {
    const struct tstream_file *file;
    uint64_t *hash;
    bool failed;
    struct error error;
};

static void hash_job_run(void *arg)
{
    struct hash_job *job = arg;
    job->failed = tstream_file_hash(job->file, job->hash) < 0;
    if (job->failed)
        error_save(&job->error);
}

int shards_hash(struct tstream_file *const *files, size_t n, size_t threads, uint64_t *hashes)
{
    struct hash_job *jobs = mem_new(n, sizeof *jobs);
    struct pool *pool = jobs ? pool_new(threads, n) : NULL;
    int rc = pool ? 0 : -1;
    for (size_t i = 0; pool && i < n; i++) {
        jobs[i] = (struct hash_job){.file = files[i], .hash = &hashes[i]};
        pool_submit(pool, hash_job_run, &jobs[i]);
    }
    for (struct hash_job *job; pool && (job = pool_collect(pool, POOL_WAIT));)
        if (job->failed && rc == 0)
            rc = error_restore(&job->error);
    pool_free(pool, NULL);
    free(jobs);
    return rc;
}

// latents.c opens standard input by the path of its descriptor.
static const char *base_name(const struct tstream_file *file)
{
    const char *path = tstream_file_name(file), *slash = strrchr(path, '/');
    if (!strncmp(path, "/proc/self/fd/", 14) || !strcmp(path, "/dev/stdin"))
        return "standard input";
    return slash ? slash + 1 : path;
}

static json_t *list_files(struct tstream_file *const *files, const uint64_t *hashes, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, hashes[i]);
        json_t *name = json_string(base_name(files[i])); // NULL if it is not UTF-8
        json_t *entry =
            json_pack("{s:o, s:I, s:s}", "name", name ? name : json_string("?"), "records",
                      (json_int_t)tstream_file_records(files[i]), "hash", hash);
        if (json_array_append_new(list, entry)) {
            json_decref(list);
            error_set(STATUS_INTERNAL, "out of memory");
            return NULL;
        }
    }
    return list;
}

// The files as a number and one hash.
static json_t *sum_files(const uint64_t *hashes, size_t n)
{
    uint64_t hash = HASH_START;
    for (size_t i = 0; i < n; i++)
        hash = hash_number(hash, hashes[i]);
    json_t *sum =
        json_pack("{s:I, s:o}", "files", (json_int_t)n, "hash", json_sprintf("%016" PRIx64, hash));
    if (!sum)
        error_set(STATUS_INTERNAL, "out of memory");
    return sum;
}

json_t *shards_describe(struct tstream_file *const *files, const uint64_t *hashes, size_t n)
{
    return n > SHARDS_LISTED_MAX ? sum_files(hashes, n) : list_files(files, hashes, n);
}

// A list of names, of which the text shows the first few.
#define NAMES_SHOWN 3
struct name_list {
    size_t n;
    char text[200];
};

static void add_name(struct name_list *names, const char *name)
{
    size_t used = strlen(names->text);
    if (names->n++ < NAMES_SHOWN)
        snprintf(names->text + used, sizeof names->text - used, "%s%.60s", used ? ", " : "", name);
}

static void append_names(char *text, size_t size, const char *what, const struct name_list *names)
{
    size_t used = strlen(text);
    if (names->n)
        used += (size_t)snprintf(text + used, size - used, "%s%s: %s", used ? "; " : "", what,
                                 names->text);
    if (names->n > NAMES_SHOWN && used < size)
        snprintf(text + used, size - used, " and %zu more", names->n - NAMES_SHOWN);
}

static const char *shards_text(const json_t *list, size_t i, const char *key)
{
    const char *text = json_string_value(json_object_get(json_array_get(list, i), key));
    return text ? text : "";
}

static bool same_hashes(const json_t *a, const json_t *b)
{
    bool equal = json_array_size(a) == json_array_size(b);
    for (size_t i = 0; equal && i < json_array_size(a); i++)
        equal = !strcmp(shards_text(a, i, "hash"), shards_text(b, i, "hash"));
    return equal;
}

// Index of the first entry of that name that is not taken; the list's size if there is none.
static size_t find_name(const json_t *list, const char *name, const bool *taken)
{
    size_t i = 0;
    while (i < json_array_size(list) &&
           (taken[i] || strcmp(shards_text(list, i, "name"), name) != 0))
        i++;
    return i;
}

static int fail_different(const json_t *old, const json_t *new)
{
    size_t n = json_array_size(new), first = SIZE_MAX;
    bool *taken = mem_new(n, sizeof *taken);
    if (!taken)
        return -1;
    struct name_list missing = {0}, changed = {0}, added = {0};
    for (size_t i = 0; i < json_array_size(old); i++) {
        const char *name = shards_text(old, i, "name");
        size_t at = find_name(new, name, taken);
        if (at == n)
            add_name(&missing, name);
        else if (strcmp(shards_text(old, i, "hash"), shards_text(new, at, "hash")) != 0)
            add_name(&changed, name);
        if (at < n)
            taken[at] = true;
        if (at != i && first == SIZE_MAX)
            first = i;
    }
    for (size_t i = 0; i < n; i++)
        if (!taken[i])
            add_name(&added, shards_text(new, i, "name"));
    free(taken);
    char text[900] = "";
    append_names(text, sizeof text, "missing", &missing);
    append_names(text, sizeof text, "changed", &changed);
    append_names(text, sizeof text, "new", &added);
    if (!*text)
        snprintf(text, sizeof text, "another order: %.60s comes where %.60s was",
                 shards_text(new, first, "name"), shards_text(old, first, "name"));
    return error_set(STATUS_DATA, "not the same data: %s", text);
}

static int compare_lists(struct tstream_file *const *files, const uint64_t *hashes, size_t n,
                         const json_t *old)
{
    json_t *new = list_files(files, hashes, n);
    int rc = !new ? -1 : same_hashes(old, new) ? 0 : fail_different(old, new);
    json_decref(new);
    return rc;
}

static int compare_sums(const uint64_t *hashes, size_t n, const json_t *old)
{
    json_int_t n_old = json_integer_value(json_object_get(old, "files"));
    json_t *new = sum_files(hashes, n);
    int rc = !new ? -1 : 0;
    if (rc == 0 && n_old != (json_int_t)n)
        rc = error_set(STATUS_DATA, "not the same data: now %zu files, before %lld", n,
                       (long long)n_old);
    else if (rc == 0 && !json_equal(old, new))
        rc = error_set(STATUS_DATA, "not the same data: some of the %zu files or their order", n);
    json_decref(new);
    return rc;
}

int shards_compare(struct tstream_file *const *files, const uint64_t *hashes, size_t n,
                   const char *json)
{
    json_error_t where;
    json_t *old = json_loads(json, 0, &where);
    int rc = json_is_array(old) ? compare_lists(files, hashes, n, old)
             : json_is_integer(json_object_get(old, "files"))
                 ? compare_sums(hashes, n, old)
                 : error_set(STATUS_DATA, "expected a list of files in JSON, found %.60s", json);
    json_decref(old);
    return rc;
}
