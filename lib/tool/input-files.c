// The loop of the programs that read one file for each record. SPDX-License-Identifier: MIT
#include "lib/tool/input-files.h"

#include <inttypes.h>
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/base/pool.h"
#include "lib/tool/tool.h"

static void file_free(void *arg)
{
    struct input_file *file = arg;
    file->all->release(file);
    free(file->path);
    free(file);
}

static void file_read(void *arg)
{
    struct input_file *file = arg;
    if (file->error.status == STATUS_OK && file->all->read(file) < 0)
        error_save(&file->error);
}

// NULL after the last.
static struct input_file *file_next(const struct input_files *all)
{
    struct input_file *file = mem_new(1, all->size);
    if (!file)
        tool_fail();
    file->all = all;
    int rc = all->next(all->user, file);
    if (rc < 0)
        tool_fail();
    if (rc > 0)
        return file;
    free(file);
    return NULL;
}

// What became of the files so far.
struct outcome {
    uint64_t used, failed;
    struct error first; // of those that failed
};

static void file_use(struct input_file *file, struct outcome *outcome)
{
    if (file->error.status == STATUS_OK) {
        if (file->ignored)
            return;
        tool_check(file->all->use(file->all->user, file));
        outcome->used++;
        return;
    }
    error_restore(&file->error);
    if (file->all->strict || file->error.status == STATUS_INTERNAL)
        tool_fail();
    progress_add(1);
    tool_skip(file->path);
    if (outcome->failed++ == 0)
        outcome->first = file->error;
}

uint64_t input_files_run(const struct input_files *all)
{
    struct pool *pool = pool_new((size_t)tool.threads, all->ahead * (size_t)tool.threads);
    if (!pool)
        tool_fail();
    struct outcome outcome = {0};
    struct input_file *file;
    bool more = true;
    do {
        while (more && !pool_full(pool) && (more = (file = file_next(all))))
            tool_check(pool_submit(pool, file_read, file));
        if ((file = pool_collect(pool, POOL_WAIT))) {
            file_use(file, &outcome);
            file_free(file);
        }
    } while (file);
    pool_free(pool, file_free);
    if (outcome.used == 0 && outcome.failed > 0 && !all->partial) {
        error_restore(&outcome.first);
        if (outcome.failed == 1)
            error_prefix("the only input failed");
        else
            error_prefix("all %" PRIu64 " inputs failed; the first", outcome.failed);
        tool_fail();
    }
    return outcome.used;
}
