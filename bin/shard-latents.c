// shard-latents: streams of latents -> shuffled files. SPDX-License-Identifier: MIT
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/latents/hold-out.h"
#include "formats/latents/shards.h"
#include "formats/latents/shuffle.h"
#include "formats/tstream/row-writer.h"
#include "formats/tstream/tstream.h"
#include "lib/base/hash.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

// What --hold-out asks for.
static struct {
    const char *text; // as it was given, or NULL
    double share;     // of all records; or
    uint64_t count;
} wanted;

// The records that are written, each to a shard or to the file of those held out.
struct records {
    struct shuffle *shuffle;
    struct schema *schema;
    struct hold_out held;
    struct schema *held_schema; // of the file of those held out; NULL if there is none
    struct row_writer held_rows;
};

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

// Adds all records of a stream to the shuffle and to the hash. The first stream makes the schema
// and the shuffle, which are NULL before it.
static int shuffle_stream(const char *path, uint64_t memory, const char *folder,
                          struct records *all, uint64_t *hash)
{
    struct schema **schema = &all->schema;
    struct shuffle **shuffle = &all->shuffle;
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
            uint8_t *const record = shuffle_add(*shuffle), *to = record;
            if (!to)
                rc = -1;
            for (size_t i = 0; i < found->n_fields && to; i++) {
                size_t size = found->fields[i].size;
                memcpy(to, batch->data[i] + row * size, size);
                *hash = hash_bytes(*hash, to, size);
                to += size;
            }
            if (record && wanted.text)
                rc = hold_out_add(&all->held, hold_out_key(&all->held, found, record));
        }
        progress_add(batch->rows);
        batch_free(batch);
    }
    tstream_close(in);
    return rc;
}

static int hold_out_record(struct records *all, const uint8_t *record)
{
    for (size_t i = 0; i < all->schema->n_fields; i++) {
        const size_t size = all->schema->fields[i].size;
        uint8_t *to = row_writer_at(&all->held_rows, (int)i);
        if (!to)
            return -1;
        memcpy(to, record, size);
        record += size;
    }
    progress_add(1);
    return row_writer_next(&all->held_rows);
}

// Gets the next record that goes to a shard, and writes those before it that are held out. 1, 0 at
// the end, -1 with an error.
static int next_record(struct records *all, const uint8_t **record)
{
    const void *next;
    int rc;
    while ((rc = shuffle_next(all->shuffle, &next)) > 0) {
        *record = next;
        if (!all->held_schema ||
            !hold_out_has(&all->held, hold_out_key(&all->held, all->schema, next)))
            return 1;
        if (hold_out_record(all, next) < 0)
            return -1;
    }
    return rc;
}

// Writes the next records of the shuffle to a file.
static int write_shard(const char *path, struct records *all, const struct shard *shard)
{
    struct schema *schema = all->schema;
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
            const uint8_t *from = NULL;
            rc = next_record(all, &from) > 0 ? 0 : -1;
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

static void parse_hold_out(const char *text)
{
    char *end;
    errno = 0;
    const double value = *text >= '0' && *text <= '9' ? strtod(text, &end) : (end = NULL, 0);
    const bool share = end && strcmp(end, "%") == 0;
    wanted.share = share ? value / 100 : 0;
    wanted.count = share ? 0 : (uint64_t)fmin(value, 1e15);
    if (!end || (*end && !share) || errno || value <= 0 || (share && value >= 100) ||
        (!share && value != (double)wanted.count))
        tool_usage_error("--hold-out: expected a number of records, or a share above 0%% and below "
                         "100%%, found '%s'",
                         text);
}

// Chooses the records to hold out, and opens a file for them.
static void start_hold_out(struct records *all, const char *path, const char *folder)
{
    const uint64_t n = all->held.n;
    uint64_t count = wanted.share > 0 ? (uint64_t)llround(wanted.share * (double)n) : wanted.count;
    count = count < 1 ? 1 : count;
    if (count < n)
        hold_out_choose(&all->held, count);
    if (count >= n || all->held.chosen == n) {
        error_set(STATUS_DATA, "--hold-out %s leaves none of the %llu records for training",
                  wanted.text, (unsigned long long)n);
        tool_fail();
    }
    tool_check(folder_make(folder));
    all->held_schema = schema_copy(all->schema);
    if (!all->held_schema ||
        schema_set(all->held_schema, "count", "%llu", (unsigned long long)all->held.chosen) < 0)
        tool_fail();
    struct output *output = output_open(path);
    struct tstream_writer *out =
        output ? tstream_create(output, all->held_schema, tool.threads, tool_level(output)) : NULL;
    if (!out)
        tool_fail();
    all->held_rows = (struct row_writer){.out = out, .schema = all->held_schema};
}

// Writes the records that are held out after the last one of the shards, and ends their file.
static void finish_hold_out(struct records *all, const char *path)
{
    const uint8_t *record;
    tool_check(next_record(all, &record));
    tool_check(row_writer_flush(&all->held_rows));
    tool_check(tstream_finish(all->held_rows.out));
    tool_note("%llu of %llu records are held out, in %s", (unsigned long long)all->held.chosen,
              (unsigned long long)all->held.n, path);
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
        OPTION_STRING("hold-out", 0, &wanted.text, "N|N%",
                      "records to hold out of the shards, for dit-train --valid"),
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
    if (wanted.text)
        parse_hold_out(wanted.text);
    char *held_folder = path_join(folder, "held-out");
    char *held_path = held_folder ? path_join(held_folder, "latents.tstream") : NULL;
    if (!held_path)
        tool_fail();
    tool_check(folder_make(folder));
    char *old = find_shard(folder, 0);
    if (!old && access(held_path, F_OK) == 0 && !(old = mem_strdup(held_path)))
        tool_fail();
    bool refused = old && !force;
    if (refused)
        error_set(STATUS_CANT_CREATE, "%s already exists; --force replaces it", old);
    free(old);
    if (refused)
        tool_fail();
    // From now on its records may be in the shards.
    if (unlink(held_path) < 0 && errno != ENOENT && errno != ENOTDIR) {
        error_set_errno(STATUS_CANT_CREATE, "cannot remove the old %s", held_path);
        tool_fail();
    }

    struct records all = {.held = {.seed = tool.seed}};
    uint64_t hash = hash_number(HASH_START, tool.seed);
    progress_start("records read", 0);
    for (char **input = tool_inputs(operands); *input; input++)
        tool_check(shuffle_stream(*input, memory, folder, &all, &hash));
    progress_finish();
    uint64_t records = shuffle_count(all.shuffle);
    if (records == 0) {
        error_set(STATUS_DATA, "expected records to shuffle, found none");
        tool_fail();
    }
    tool_check(shuffle_start(all.shuffle));
    tool_check(schema_add_provenance(all.schema, tool_provenance()));
    progress_start("records written", records);
    if (wanted.text) {
        start_hold_out(&all, held_path, held_folder);
        records -= all.held.chosen;
        hash = hash_number(hash, all.held.limit);
    }

    size_t record_size = schema_record_size(all.schema);
    if (!shard_size)
        shard_size = (uint64_t)1 << 30;
    uint64_t each = shard_records ? (uint64_t)shard_records : shard_size / record_size;
    if (each == 0)
        each = 1;
    uint64_t n = shards ? (uint64_t)shards : (records + each - 1) / each, done = 0;
    struct shard shard = {.set = hash_number(hash, shards ? n : each), .count = n};
    for (; shard.index < n; shard.index++) {
        uint64_t end = (unsigned __int128)records * (shard.index + 1) / n;
        if (!shards)
            end = records - done < each ? records : done + each;
        shard.records = end - done;
        char *path = mem_printf("%s/shard-%05llu.tstream", folder, (unsigned long long)shard.index);
        if (!path || write_shard(path, &all, &shard) < 0)
            tool_fail();
        puts(path);
        fflush(stdout);
        free(path);
        done = end;
    }
    if (wanted.text)
        finish_hold_out(&all, held_path);
    progress_finish();
    while ((old = find_shard(folder, n))) {
        if (unlink(old) < 0) {
            error_set_errno(STATUS_CANT_CREATE, "cannot remove the old %s", old);
            tool_fail();
        }
        free(old);
    }
    shuffle_free(all.shuffle);
    schema_free(all.schema);
    schema_free(all.held_schema);
    hold_out_free(&all.held);
    free(held_path);
    free(held_folder);
    return tool_finish();
}
