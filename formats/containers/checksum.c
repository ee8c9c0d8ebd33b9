// Finds and checks the checksum by its text in the header, which is not parsed for it.
// SPDX-License-Identifier: MIT
#include "formats/containers/checksum.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "lib/base/error.h"

static const char before[] = "\"" CHECKSUM_KEY "\":\"", zeros[] = "00000000";

int checksum_reserve(json_t *metadata)
{
    if (json_object_set_new(metadata, CHECKSUM_KEY, json_string(zeros)) < 0)
        return error_set(STATUS_INTERNAL, "out of memory");
    return 0;
}

size_t checksum_find(const uint8_t *header, size_t size)
{
    // This finds no text within a string: quotes would be escaped there.
    const uint8_t *found = memmem(header, size, before, sizeof before - 1);
    size_t at = found ? (size_t)(found - header) + sizeof before - 1 : 0;
    return size - at > CHECKSUM_DIGITS && header[at + CHECKSUM_DIGITS] == '"' ? at : 0;
}

uint32_t checksum_add(uint32_t sum, const void *data, size_t size)
{
    return (uint32_t)crc32_z(sum, data, size);
}

void checksum_text(uint32_t sum, char text[CHECKSUM_DIGITS + 1])
{
    snprintf(text, CHECKSUM_DIGITS + 1, "%08x", sum);
}

int checksum_check(const uint8_t *data, size_t size)
{
    size_t at = checksum_find(data, size);
    if (at == 0)
        return 0;
    const uint8_t *said = data + at, *after = said + CHECKSUM_DIGITS;
    char text[CHECKSUM_DIGITS + 1];
    uint32_t sum = checksum_add(0, data, at);
    sum = checksum_add(sum, zeros, CHECKSUM_DIGITS);
    sum = checksum_add(sum, after, size - (size_t)(after - data));
    checksum_text(sum, text);
    if (memcmp(said, text, CHECKSUM_DIGITS) == 0)
        return 0;
    return error_set(STATUS_DATA, "damaged: its CRC-32 is %s, expected %.*s", text, CHECKSUM_DIGITS,
                     (const char *)said);
}
