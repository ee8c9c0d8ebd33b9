// Lines of text files that editors on other systems wrote. SPDX-License-Identifier: MIT
#ifndef DIT_TEXT_H
#define DIT_TEXT_H

#include <stddef.h>
#include <string.h>

// The length of the byte order mark, of UTF-8, that the text begins with; 0 if there is none.
static inline size_t text_bom(const char *text, size_t size)
{
    return size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

// The length of a line without the carriage return that may end it.
static inline size_t text_line_length(const char *line, size_t length)
{
    return length > 0 && line[length - 1] == '\r' ? length - 1 : length;
}

#endif
