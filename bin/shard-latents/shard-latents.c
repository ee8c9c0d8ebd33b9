// shard-latents: streams of latents -> shuffled files. SPDX-License-Identifier: MIT
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/shard-latents/records.h"
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

// Holds out what is wanted of the records.
static void hold_out_wanted(struct records *all, const char *path, const char *folder)
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
    tool_check(records_hold_out(all, path));
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

    struct records all = {.held = {.seed = tool.seed},
                          .hash = hash_number(HASH_START, tool.seed),
                          .holds_out = wanted.text};
    progress_start("records read", 0);
    for (char **input = tool_inputs(operands); *input; input++)
        tool_check(records_add(&all, *input, memory, folder));
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
        hold_out_wanted(&all, held_path, held_folder);
        records -= all.held.chosen;
        all.hash = hash_number(all.hash, all.held.limit);
    }

    size_t record_size = schema_record_size(all.schema);
    if (!shard_size)
        shard_size = (uint64_t)1 << 30;
    uint64_t each = shard_records ? (uint64_t)shard_records : shard_size / record_size;
    if (each == 0)
        each = 1;
    uint64_t n = shards ? (uint64_t)shards : (records + each - 1) / each, done = 0;
    struct shard shard = {.set = hash_number(all.hash, shards ? n : each), .count = n};
    for (; shard.index < n; shard.index++) {
        uint64_t end = (unsigned __int128)records * (shard.index + 1) / n;
        if (!shards)
            end = records - done < each ? records : done + each;
        shard.records = end - done;
        char *path = mem_printf("%s/shard-%05llu.tstream", folder, (unsigned long long)shard.index);
        if (!path || records_write_shard(&all, path, &shard) < 0)
            tool_fail();
        puts(path);
        fflush(stdout);
        free(path);
        done = end;
    }
    tool_check(records_finish(&all));
    if (wanted.text)
        tool_note("%llu of %llu records are held out, in %s", (unsigned long long)all.held.chosen,
                  (unsigned long long)all.held.n, held_path);
    progress_finish();
    while ((old = find_shard(folder, n))) {
        if (unlink(old) < 0) {
            error_set_errno(STATUS_CANT_CREATE, "cannot remove the old %s", old);
            tool_fail();
        }
        free(old);
    }
    records_free(&all);
    free(held_path);
    free(held_folder);
    return tool_finish();
}
