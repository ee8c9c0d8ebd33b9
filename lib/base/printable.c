// Tells printable characters of UTF-8 from others. SPDX-License-Identifier: MIT
#include "lib/base/printable.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// Reads a character; 0 if the bytes are not UTF-8 as it must be written: whole, as short as can be,
// and neither half of a surrogate pair nor beyond U+10FFFF. Returns the number of its bytes.
static size_t read_utf8(const unsigned char *text, size_t size, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = text[0];
    size_t n = first < 0x80 ? 1 : first < 0xC0 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (n == 0 || n > size || first > 0xF4)
        return 0;
    *code = n == 1 ? first : first & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xC0) != 0x80)
            return 0;
        *code = *code << 6 | (text[i] & 0x3Fu);
    }
    bool surrogate = *code >= 0xD800 && *code <= 0xDFFF;
    return *code < least[n] || surrogate || *code > 0x10FFFF ? 0 : n;
}

// The ranges are Unicode's categories Cc, Cf, Zl, Zp and Co, and what fonts leave out.
static bool is_printable(uint32_t code)
{
    static const uint32_t hidden[][2] = {
        {0x00, 0x1F},       {0x7F, 0x9F},       {0xAD, 0xAD},       {0x34F, 0x34F},
        {0x600, 0x605},     {0x61C, 0x61C},     {0x6DD, 0x6DD},     {0x70F, 0x70F},
        {0x890, 0x891},     {0x8E2, 0x8E2},     {0x115F, 0x1160},   {0x17B4, 0x17B5},
        {0x180B, 0x180F},   {0x200B, 0x200F},   {0x2028, 0x202E},   {0x2060, 0x206F},
        {0x3164, 0x3164},   {0xE000, 0xF8FF},   {0xFDD0, 0xFDEF},   {0xFE00, 0xFE0F},
        {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},   {0xFFF0, 0xFFFB},   {0xFFFE, 0xFFFF},
        {0x110BD, 0x110BD}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3},
        {0x1D173, 0x1D17A}, {0xE0000, 0x10FFFF}};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (code >= hidden[i][0] && code <= hidden[i][1])
            return false;
    return true;
}

size_t make_printable(char *text, size_t size)
{
    size_t used = 0, n;
    for (size_t i = 0; i < size; i += n) {
        uint32_t code;
        n = read_utf8((const unsigned char *)text + i, size - i, &code);
        if (n && is_printable(code)) {
            memmove(text + used, text + i, n);
            used += n;
        } else {
            text[used++] = '?';
            n = n ? n : 1;
        }
    }
    return used;
}
