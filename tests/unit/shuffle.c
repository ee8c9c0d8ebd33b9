// Shuffling keeps every record, and its order depends on the seed alone.
// SPDX-License-Identifier: MIT
#include "formats/latents/shuffle.h"

#include <stdint.h>
#include <string.h>

#include "lib/base/error.h"
#include "tests/tap.h"

#define N 20000

struct record {
    uint32_t index;
    char text[9]; // an odd size
};

// Shuffles N records. Sets order (N + 1) to their indexes, then their number; false if the shuffle
// fails or harms a record.
static bool shuffle_all(uint64_t memory, uint64_t seed, uint32_t *order)
{
    struct shuffle *shuffle = shuffle_new(sizeof(struct record), memory, seed, "/tmp");
    struct record record = {0};
    bool good = shuffle != NULL;
    for (uint32_t i = 0; i < N && good; i++) {
        void *to = shuffle_add(shuffle);
        record.index = i;
        snprintf(record.text, sizeof(record.text), "%08x", i * 2654435761u);
        good = to != NULL;
        if (good)
            memcpy(to, &record, sizeof(record));
    }
    good = good && shuffle_start(shuffle) == 0;
    const void *found;
    int rc;
    for (order[N] = 0; good && (rc = shuffle_next(shuffle, &found)) != 0;) {
        char text[9];
        memcpy(&record, found, sizeof(record));
        snprintf(text, sizeof(text), "%08x", record.index * 2654435761u);
        good = rc == 1 && order[N] < N && strcmp(text, record.text) == 0;
        order[order[N]++] = record.index;
    }
    good = good && shuffle_next(shuffle, &found) == 0 && shuffle_count(shuffle) == N;
    shuffle_free(shuffle);
    return good;
}

static bool is_permutation(const uint32_t *order)
{
    static bool seen[N];
    memset(seen, 0, sizeof(seen));
    for (size_t i = 0; i < N; i++) {
        if (order[i] >= N || seen[order[i]])
            return false;
        seen[order[i]] = true;
    }
    return order[N] == N;
}

// Pearson's chi-square statistic of the table of 16 parts of the input by 16 parts of the output:
// it has 225 degrees of freedom, so its mean is 225 and its standard deviation 21.
static double chi_square(const uint32_t *order)
{
    size_t counts[16][16] = {0};
    double sum = 0, expected = N / 256.0;
    for (size_t i = 0; i < N; i++)
        counts[i * 16 / N][order[i] * 16 / N]++;
    for (size_t i = 0; i < 256; i++)
        sum += (counts[i / 16][i % 16] - expected) * (counts[i / 16][i % 16] - expected) / expected;
    return sum;
}

int main(void)
{
    static uint32_t whole[N + 1], small[N + 1], tiny[N + 1], other[N + 1];
    ok(shuffle_all(1 << 24, 7, whole) && is_permutation(whole),
       "in memory: every record once, unharmed");
    ok(shuffle_all(100000, 7, small) && is_permutation(small),
       "in 100 kB: every record once, unharmed");
    ok(memcmp(whole, small, sizeof(whole)) == 0, "the order does not depend on memory");
    ok(shuffle_all(12000, 7, tiny) && memcmp(whole, tiny, sizeof(whole)) == 0,
       "the order is the same where each of many runs has room for a record or two");
    ok(shuffle_all(1 << 24, 8, other) && memcmp(whole, other, sizeof(whole)) != 0,
       "another seed gives another order");
    double chi = chi_square(whole);
    ok(chi > 225 - 5 * 21 && chi < 225 + 5 * 21, "the order is uniform (chi square %.0f)", chi);

    ok(!shuffle_all(6000, 7, other) && error_status() == STATUS_USAGE &&
           strstr(error_message(), "memory"),
       "too many runs for the memory is an error");
    diag("%s", error_message());
    ok(!shuffle_new(1000, 1000, 0, "/tmp") && error_status() == STATUS_USAGE,
       "a record larger than the memory is an error");
    diag("%s", error_message());
    setenv("TMPDIR", "/nonexistent", 1);
    ok(!shuffle_all(100000, 7, other) && error_status() == STATUS_CANT_CREATE,
       "a temporary file that can't be made is an error");
    diag("%s", error_message());
    return tap_done();
}
