// A tensor is checked just before it is used: so a program reads no more of a file for its
// checksums than it reads anyway. SPDX-License-Identifier: MIT
#include "formats/weights/weight-sums.h"

#include <stdbool.h>
#include <stdlib.h>

#include "formats/containers/checksum.h"
#include "lib/base/bytes.h"
#include "lib/base/mem.h"

struct weight_sums {
    const uint8_t *bytes; // of the file
    size_t size;
    struct checksum_places places;
    bool whole_good;
    bool good[]; // of each tensor
};

int weight_sums_new(struct weight_sums **out, size_t n, const uint8_t *bytes, size_t size)
{
    size_t header_size = 8 + (size_t)get_le(bytes, 8);
    struct checksum_places places = checksum_find(bytes, header_size, n);
    *out = NULL;
    if (checksum_check_header(bytes, header_size, places) < 0)
        return -1;
    if (!places.whole && !places.parts)
        return 0;
    struct weight_sums *sums = mem_new(1, sizeof *sums + n * sizeof *sums->good);
    if (!sums)
        return -1;
    sums->bytes = bytes;
    sums->size = size;
    sums->places = places;
    *out = sums;
    return 0;
}

void weight_sums_free(struct weight_sums *sums)
{
    free(sums);
}

int weight_sums_check(struct weight_sums *sums, size_t i, const void *data, size_t size)
{
    if (!sums->places.parts)
        return weight_sums_check_file(sums);
    if (sums->whole_good || sums->good[i])
        return 0;
    if (checksum_check_tensor(sums->bytes, sums->places, i, data, size) < 0)
        return -1;
    sums->good[i] = true;
    return 0;
}

int weight_sums_check_file(struct weight_sums *sums)
{
    if (!sums->whole_good && checksum_check(sums->bytes, sums->size) < 0)
        return -1;
    sums->whole_good = true;
    return 0;
}
