// Finds, computes and compares the checksums of a safetensors file. SPDX-License-Identifier: MIT
#include "formats/containers/checksum.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

static const char zeros[] = "00000000";

int checksum_reserve(json_t *metadata)
{
    if (json_object_set_new(metadata, CHECKSUM_KEY, json_string(zeros)) < 0)
        return error_set(STATUS_INTERNAL, "no memory for the metadata's " CHECKSUM_KEY);
    return 0;
}

int checksum_reserve_parts(json_t *metadata, size_t n)
{
    size_t size = (n + 1) * CHECKSUM_DIGITS;
    char *digits = mem_new(size, 1);
    if (!digits)
        return -1;
    memset(digits, '0', size);
    int rc = json_object_set_new(metadata, CHECKSUM_PARTS_KEY, json_stringn(digits, size));
    free(digits);
    return rc < 0 ? error_set(STATUS_INTERNAL, "no memory for the metadata's " CHECKSUM_PARTS_KEY)
                  : 0;
}

// The offset of the text after `before`, if it has `length` bytes and a quote follows; else 0.
static size_t find_digits(const uint8_t *header, size_t size, const char *before, size_t length)
{
    // Within a string the quotes would have backslashes.
    const uint8_t *found = memmem(header, size, before, strlen(before));
    size_t at = found ? (size_t)(found - header) + strlen(before) : 0;
    return at && size - at > length && header[at + length] == '"' ? at : 0;
}

struct checksum_places checksum_find(const uint8_t *header, size_t size, size_t n)
{
    return (struct checksum_places){
        .whole = find_digits(header, size, "\"" CHECKSUM_KEY "\":\"", CHECKSUM_DIGITS),
        .parts =
            find_digits(header, size, "\"" CHECKSUM_PARTS_KEY "\":\"", (n + 1) * CHECKSUM_DIGITS)};
}

uint32_t checksum_add(uint32_t sum, const void *data, size_t size)
{
    return (uint32_t)crc32_z(sum, data, size);
}

uint32_t checksum_join(uint32_t first, uint32_t second, size_t size)
{
    return (uint32_t)crc32_combine(first, second, (z_off_t)size);
}

// The sum with zeros in the place of the digits at `a` and `b`; 0 is no place.
static uint32_t sum_with_zeros(const uint8_t *data, size_t size, size_t a, size_t b)
{
    const size_t places[] = {a < b ? a : b, a < b ? b : a};
    size_t at = 0;
    uint32_t sum = 0;
    for (size_t i = 0; i < 2; i++)
        if (places[i]) {
            sum = checksum_add(sum, data + at, places[i] - at);
            sum = checksum_add(sum, zeros, CHECKSUM_DIGITS);
            at = places[i] + CHECKSUM_DIGITS;
        }
    return checksum_add(sum, data + at, size - at);
}

static void set_digits(uint8_t *digits, uint32_t sum)
{
    char text[CHECKSUM_DIGITS + 1];
    snprintf(text, sizeof text, "%08x", sum);
    memcpy(digits, text, CHECKSUM_DIGITS);
}

static int compare_digits(const uint8_t *digits, uint32_t sum)
{
    uint8_t found[CHECKSUM_DIGITS];
    char expected[ERROR_SHOWN_SIZE];
    set_digits(found, sum);
    if (memcmp(digits, found, CHECKSUM_DIGITS) == 0)
        return 0;
    return error_set(STATUS_DATA, "damaged: its CRC-32 is %.*s, expected %s", CHECKSUM_DIGITS,
                     (const char *)found,
                     error_shown((const char *)digits, CHECKSUM_DIGITS, expected));
}

void checksum_set_tensor(uint8_t *header, struct checksum_places places, size_t i, uint32_t sum)
{
    set_digits(header + places.parts + (i + 1) * CHECKSUM_DIGITS, sum);
}

void checksum_finish(uint8_t *header, size_t size, struct checksum_places places, uint32_t data_sum,
                     size_t data_size)
{
    if (places.parts)
        set_digits(header + places.parts, sum_with_zeros(header, size, places.whole, places.parts));
    if (places.whole)
        set_digits(
            header + places.whole,
            checksum_join(sum_with_zeros(header, size, places.whole, 0), data_sum, data_size));
}

int checksum_check_header(const uint8_t *header, size_t size, struct checksum_places places)
{
    if (!places.parts)
        return 0;
    uint32_t sum = sum_with_zeros(header, size, places.whole, places.parts);
    return compare_digits(header + places.parts, sum) < 0 ? error_prefix("header") : 0;
}

int checksum_check_tensor(const uint8_t *header, struct checksum_places places, size_t i,
                          const void *data, size_t size)
{
    if (!places.parts)
        return 0;
    return compare_digits(header + places.parts + (i + 1) * CHECKSUM_DIGITS,
                          checksum_add(0, data, size));
}

int checksum_check(const uint8_t *data, size_t size)
{
    uint64_t length = size < 8 ? 0 : get_le(data, 8);
    size_t header_size = length > size ? size : (size_t)length;
    size_t whole = checksum_find(data, header_size, 0).whole;
    return whole ? compare_digits(data + whole, sum_with_zeros(data, size, whole, 0)) : 0;
}
