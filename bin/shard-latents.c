// shard-latents: streams of latents -> shuffled files. SPDX-License-Identifier: MIT
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/latents/shards.h"
#include "formats/latents/shuffle.h"
#include "formats/tstream/tstream.h"
#include "lib/base/hash.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

// The path of a file in the folder that has the name of a shard, but not of one of the first
// `keep`; malloc'd, NULL if there is none.
static char *find_shard(const char *folder, uint64_t keep)
{
    DIR *dir = opendir(folder);
    char *path = NULL;
    struct dirent *entry;
    if (!dir)
        return NULL;
    while (!path && (entry = readdir(dir))) {
        unsigned long long number;
        int end = 0;
        if (sscanf(entry->d_name, "shard-%20llu.tstream%n", &number, &end) == 1 && end > 0 &&
            !entry->d_name[end] && number >= keep)
            path = path_join(folder, entry->d_name);
    }
    closedir(dir);
    return path;
}

// Adds all records of a stream to the shuffle and to the hash. The first stream makes *schema and
// *shuffle, which are NULL before it.
static int shuffle_stream(const char *path, uint64_t memory, const char *folder,
                          struct schema **schema, struct shuffle **shuffle, uint64_t *hash)
{
    struct tstream_reader *in = tstream_open(path, tool.threads);
    if (!in)
        return -1;
    const struct schema *found = tstream_schema(in);
    int rc = 0;
    if (!*schema) {
        *schema = schema_copy(found);
        *shuffle =
            *schema ? shuffle_new(schema_record_size(found), memory, tool.seed, folder) : NULL;
        rc = *shuffle ? 0 : -1;
    } else if (schema_check_same(*schema, found) < 0) {
        rc = error_prefix("%s", tstream_name(in));
    }
    struct batch *batch;
    while (rc == 0 && (rc = tstream_read(in, &batch)) > 0) {
        rc = 0;
        for (size_t row = 0; row < batch->rows && rc == 0; row++) {
            uint8_t *to = shuffle_add(*shuffle);
            if (!to)
                rc = -1;
            for (size_t i = 0; i < found->n_fields && to; i++) {
                size_t size = found->fields[i].size;
                memcpy(to, batch->data[i] + row * size, size);
                *hash = hash_bytes(*hash, to, size);
                to += size;
            }
        }
        progress_add(batch->rows);
        batch_free(batch);
    }
    tstream_close(in);
    return rc;
}

// Writes the next records of the shuffle to a file.
static int write_shard(const char *path, struct schema *schema, struct shuffle *shuffle,
                       const struct shard *shard)
{
    uint64_t records = shard->records;
    if (schema_set(schema, "count", "%llu", (unsigned long long)records) < 0 ||
        shard_mark(schema, shard) < 0)
        return -1;
    struct output *output = output_open(path);
    struct tstream_writer *out =
        output ? tstream_create(output, schema, tool.threads, tool_level(output)) : NULL;
    int rc = out ? 0 : -1;
    for (size_t aim = schema_rows_aim(schema), n; records && rc == 0; records -= n) {
        n = records < aim ? records : aim;
        struct batch *batch = batch_new(schema, n);
        rc = batch ? 0 : -1;
        for (size_t row = 0; row < n && rc == 0; row++) {
            const void *record;
            rc = shuffle_next(shuffle, &record) > 0 ? 0 : -1;
            const uint8_t *from = record;
            for (size_t i = 0; i < schema->n_fields && rc == 0; i++) {
                size_t size = schema->fields[i].size;
                memcpy(batch->data[i] + row * size, from, size);
                from += size;
            }
        }
        if (rc == 0)
            rc = tstream_write(out, batch);
        else
            batch_free(batch);
        progress_add(n);
    }
    if (rc == 0)
        return tstream_finish(out);
    tstream_abandon(out);
    return -1;
}

int main(int argc, char **argv)
{
    const char *folder = "shards";
    uint64_t memory = (uint64_t)1 << 30, shard_size = 0;
    int64_t shard_records = 0, shards = 0;
    bool force = false;
    const struct option options[] = {
        OPTION_STRING("output", 'o', &folder, "FOLDER", "folder for the shards (default shards)"),
        OPTION_SIZE("shard-size", 0, &shard_size,
                    "bytes of uncompressed data in a shard (default 1G)"),
        OPTION_INT("records-per-shard", 0, &shard_records, 1, 1e15,
                   "records in a shard, instead of --shard-size"),
        OPTION_INT("shards", 0, &shards, 1, 1e6,
                   "number of shards of equal size, instead of --shard-size"),
        OPTION_SIZE("memory", 0, &memory, "memory for records in bytes (default 1G)"),
        OPTION_FLAG("force", 'f', &force, "replace the shards that are already in FOLDER"),
        TOOL_OPTION_SEED,
        TOOL_OPTION_THREADS,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    char **operands =
        tool_start(argc, argv,
                   &(struct tool_info){
                       "shard-latents", "[OPTION]... [FILE]...",
                       "Shuffle streams of latents into files; print the files' paths.", options});
    if ((shard_size > 0) + (shard_records > 0) + (shards > 0) > 1)
        tool_usage_error("--shard-size, --records-per-shard and --shards exclude each other");
    tool_check(folder_make(folder));
    char *old = find_shard(folder, 0);
    bool refused = old && !force;
    if (refused)
        error_set(STATUS_CANT_CREATE, "%s already exists; --force replaces it", old);
    free(old);
    if (refused)
        tool_fail();

    struct schema *schema = NULL;
    struct shuffle *shuffle = NULL;
    uint64_t hash = hash_number(HASH_START, tool.seed);
    progress_start("records read", 0);
    for (char **input = tool_inputs(operands); *input; input++)
        tool_check(shuffle_stream(*input, memory, folder, &schema, &shuffle, &hash));
    progress_finish();
    uint64_t records = shuffle_count(shuffle);
    if (records == 0) {
        error_set(STATUS_DATA, "expected records to shuffle, found none");
        tool_fail();
    }
    tool_check(shuffle_start(shuffle));
    tool_check(schema_add_provenance(schema, tool_provenance()));

    size_t record_size = schema_record_size(schema);
    if (!shard_size)
        shard_size = (uint64_t)1 << 30;
    uint64_t each = shard_records ? (uint64_t)shard_records : shard_size / record_size;
    if (each == 0)
        each = 1;
    uint64_t n = shards ? (uint64_t)shards : (records + each - 1) / each, done = 0;
    struct shard shard = {.set = hash_number(hash, shards ? n : each), .count = n};
    progress_start("records written", records);
    for (; shard.index < n; shard.index++) {
        uint64_t end = (unsigned __int128)records * (shard.index + 1) / n;
        if (!shards)
            end = records - done < each ? records : done + each;
        shard.records = end - done;
        char *path = mem_printf("%s/shard-%05llu.tstream", folder, (unsigned long long)shard.index);
        if (!path || write_shard(path, schema, shuffle, &shard) < 0)
            tool_fail();
        puts(path);
        fflush(stdout);
        free(path);
        done = end;
    }
    progress_finish();
    while ((old = find_shard(folder, n))) {
        if (unlink(old) < 0) {
            error_set_errno(STATUS_CANT_CREATE, "cannot remove the old %s", old);
            tool_fail();
        }
        free(old);
    }
    shuffle_free(shuffle);
    schema_free(schema);
    return tool_finish();
}
