// Large files of public repositories come as pointers without git-lfs, and as a page where a login
// is needed or the address is that of the page about the file. SPDX-License-Identifier: MIT
#include "formats/weights/download.h"

#include <string.h>
#include <strings.h>

static int begins_with(const uint8_t *bytes, size_t size, const char *text)
{
    return size >= strlen(text) && strncasecmp((const char *)bytes, text, strlen(text)) == 0;
}

const char *download_found_instead(const uint8_t *bytes, size_t size)
{
    if (begins_with(bytes, size, "version https://git-lfs"))
        return "a git-lfs pointer (\"git lfs pull\" fetches the file itself)";
    if (begins_with(bytes, size, "\xEF\xBB\xBF"))
        bytes += 3, size -= 3;
    while (size && strchr(" \t\r\n", *bytes) && *bytes)
        bytes++, size--;
    if (begins_with(bytes, size, "<!doctype") || begins_with(bytes, size, "<html"))
        return "an HTML page (the download gave a page in place of the file)";
    return NULL;
}
