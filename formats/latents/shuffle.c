// Shuffles records by an external merge sort over random tags. SPDX-License-Identifier: MIT
#include "formats/latents/shuffle.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/rng.h"
#include "lib/base/scratch.h"

#define WRITE_SIZE ((size_t)1 << 20)

struct tagged_slot {
    uint64_t tag, slot; // slots are filled by rising index, so they break ties as indexes would
};

// A sorted part of the file, and the window of it that is in memory.
struct sorted_run {
    uint64_t offset, end; // the part of the file still to be read
    uint8_t *slots;       // the window
    size_t at, n;         // slots: used, and in the window
    uint64_t tag, index;  // of the record at `at`
};

// A slot is a record's index (8 bytes), its bytes, and padding to a multiple of 8.
struct shuffle {
    uint64_t seed, count;
    char *folder;
    size_t slot_size;
    uint8_t *slots; // records being added; later the runs' windows
    size_t n_slots, n_used;
    struct tagged_slot *order;
    size_t next; // records returned
    int fd;      // of the file, or -1 while all records fit into memory
    uint64_t file_size;
    struct sorted_run *runs; // from shuffle_start on, a heap by tag
    size_t n_runs, window;   // window: slots of each run's
};

static uint64_t record_tag(const struct shuffle *s, uint64_t index)
{
    struct rng rng = {s->seed, RNG_ORDER, 0, index};
    return rng_below(&rng, 0, UINT64_MAX);
}

struct shuffle *shuffle_new(size_t record_size, uint64_t memory, uint64_t seed, const char *folder)
{
    struct shuffle *s = mem_new(1, sizeof *s);
    if (!s)
        return NULL;
    s->fd = -1;
    s->seed = seed;
    s->slot_size = 8 + (record_size + 7) / 8 * 8;
    // qsort allocates a second array of tags.
    s->n_slots = memory / (s->slot_size + 2 * sizeof(struct tagged_slot));
    if (s->n_slots < 2) {
        error_set(STATUS_USAGE,
                  "records of %zu bytes can't be shuffled in %" PRIu64 " bytes of memory",
                  record_size, memory);
        shuffle_free(s);
        return NULL;
    }
    s->folder = mem_strdup(folder);
    s->slots = mem_new(s->n_slots, s->slot_size);
    s->order = mem_new(s->n_slots, sizeof *s->order);
    if (!s->folder || !s->slots || !s->order) {
        shuffle_free(s);
        return NULL;
    }
    return s;
}

static int compare_tags(const void *a, const void *b)
{
    const struct tagged_slot *x = a, *y = b;
    if (x->tag != y->tag)
        return x->tag < y->tag ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void sort_slots(struct shuffle *s)
{
    for (size_t i = 0; i < s->n_used; i++) {
        uint64_t index;
        memcpy(&index, s->slots + i * s->slot_size, 8);
        s->order[i] = (struct tagged_slot){record_tag(s, index), i};
    }
    qsort(s->order, s->n_used, sizeof *s->order, compare_tags);
}

// Moves the records in memory to the file, as a sorted run.
static int spill(struct shuffle *s)
{
    if (s->fd < 0 && (s->fd = scratch_open(s->folder)) < 0)
        return -1;
    size_t chunk = WRITE_SIZE / s->slot_size + 1;
    uint8_t *buffer = mem_new(chunk, s->slot_size);
    if (!buffer)
        return -1;
    sort_slots(s);
    int rc = 0;
    for (size_t i = 0; i < s->n_used && rc == 0; i += chunk) {
        size_t n = s->n_used - i < chunk ? s->n_used - i : chunk;
        for (size_t j = 0; j < n; j++)
            memcpy(buffer + j * s->slot_size, s->slots + s->order[i + j].slot * s->slot_size,
                   s->slot_size);
        rc = scratch_write(s->fd, buffer, n * s->slot_size);
        s->file_size += n * s->slot_size;
    }
    free(buffer);
    s->n_used = 0;
    return rc;
}

void *shuffle_add(struct shuffle *s)
{
    if (s->n_used == s->n_slots && spill(s) < 0)
        return NULL;
    uint8_t *slot = s->slots + s->n_used++ * s->slot_size;
    memcpy(slot, &s->count, 8);
    s->count++;
    return slot + 8;
}

uint64_t shuffle_count(const struct shuffle *s)
{
    return s->count;
}

// Sets the tag and index of a run's next record, and refills the window if all of it was used.
static int run_load_head(struct shuffle *s, struct sorted_run *run)
{
    if (run->at == run->n && run->offset < run->end) {
        uint64_t left = run->end - run->offset;
        size_t want = s->window * s->slot_size, got;
        if (want > left)
            want = left;
        if (fd_pread_full(s->fd, run->slots, want, run->offset, &got) < 0)
            return error_set_errno(STATUS_IO, "cannot read a temporary file");
        if (got < want)
            return error_set(STATUS_IO, "a temporary file ends after %zu of %zu bytes", got, want);
        // Frees the disk space for the output, where the file system can do that.
        (void)!fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, run->offset, want);
        run->offset += want;
        run->at = 0;
        run->n = want / s->slot_size;
    }
    if (run->at < run->n) {
        memcpy(&run->index, run->slots + run->at * s->slot_size, 8);
        run->tag = record_tag(s, run->index);
    }
    return 0;
}

static bool run_before(const struct sorted_run *a, const struct sorted_run *b)
{
    return a->tag != b->tag ? a->tag < b->tag : a->index < b->index;
}

static void sift_down(struct shuffle *s, size_t i)
{
    for (;;) {
        size_t first = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < s->n_runs; child++)
            if (run_before(&s->runs[child], &s->runs[first]))
                first = child;
        if (first == i)
            return;
        struct sorted_run run = s->runs[i];
        s->runs[i] = s->runs[first];
        s->runs[first] = run;
        i = first;
    }
}

int shuffle_start(struct shuffle *s)
{
    if (s->fd < 0) {
        sort_slots(s);
        return 0;
    }
    if (spill(s) < 0)
        return -1;
    uint64_t run_size = (uint64_t)s->n_slots * s->slot_size;
    s->n_runs = (s->file_size + run_size - 1) / run_size;
    s->window = s->n_slots / s->n_runs;
    if (s->window == 0)
        return error_set(STATUS_USAGE,
                         "%" PRIu64
                         " records can't be shuffled in memory that holds %zu; increase --memory",
                         s->count, s->n_slots);
    s->runs = mem_new(s->n_runs, sizeof *s->runs);
    if (!s->runs)
        return -1;
    for (size_t i = 0; i < s->n_runs; i++) {
        struct sorted_run *run = &s->runs[i];
        run->offset = i * run_size;
        run->end = run->offset + run_size < s->file_size ? run->offset + run_size : s->file_size;
        run->slots = s->slots + i * s->window * s->slot_size;
        if (run_load_head(s, run) < 0)
            return -1;
    }
    for (size_t i = s->n_runs; i-- > 0;)
        sift_down(s, i);
    return 0;
}

// Returns the first record of the heap's first run, after removing the one returned before.
static int merge_next(struct shuffle *s, const void **record)
{
    struct sorted_run *first = s->runs;
    if (s->next++ > 0) {
        first->at++;
        if (run_load_head(s, first) < 0)
            return -1;
        if (first->at == first->n) {
            *first = s->runs[--s->n_runs];
            if (s->n_runs == 0)
                return 0;
        }
        sift_down(s, 0);
    }
    *record = first->slots + first->at * s->slot_size + 8;
    return 1;
}

int shuffle_next(struct shuffle *s, const void **record)
{
    if (s->runs)
        return s->n_runs ? merge_next(s, record) : 0;
    if (s->next == s->n_used)
        return 0;
    *record = s->slots + s->order[s->next++].slot * s->slot_size + 8;
    return 1;
}

void shuffle_free(struct shuffle *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->folder);
    free(s->slots);
    free(s->order);
    free(s->runs);
    free(s);
}
