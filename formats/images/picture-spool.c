// Each picture is a header, its path, and its data or its error. SPDX-License-Identifier: MIT
#include "formats/images/picture-spool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/scratch.h"

struct spool_header {
    uint64_t size;
    uint32_t class, path_size; // with the 0 at its end
    enum status status;        // STATUS_OK, or that of the error
};

int picture_spool_open(struct picture_spool *spool)
{
    *spool = (struct picture_spool){.fd = scratch_open(NULL)};
    return spool->fd < 0 ? -1 : 0;
}

int picture_spool_add(struct picture_spool *spool, const struct spooled_picture *picture)
{
    const struct spool_header header = {.size =
                                            picture->bad ? strlen(error_message()) : picture->size,
                                        .class = picture->class,
                                        .path_size = (uint32_t)strlen(picture->path) + 1,
                                        .status = picture->bad ? error_status() : STATUS_OK};
    const void *data = picture->bad ? (const void *)error_message() : picture->data;
    return scratch_write(spool->fd, &header, sizeof header) < 0 ||
                   scratch_write(spool->fd, picture->path, header.path_size) < 0 ||
                   scratch_write(spool->fd, data, header.size) < 0
               ? -1
               : 0;
}

static int read_bytes_back(struct picture_spool *spool, void *to, size_t size, size_t *got)
{
    if (fd_pread_full(spool->fd, to, size, spool->at, got) < 0)
        return error_set_errno(STATUS_IO, "cannot read a temporary file");
    spool->at += *got;
    return 0;
}

int picture_spool_next(struct picture_spool *spool, struct spooled_picture *picture)
{
    struct spool_header header;
    size_t got;
    if (read_bytes_back(spool, &header, sizeof header, &got) < 0)
        return -1;
    if (got == 0)
        return 0;
    free(spool->path);
    spool->path = mem_resize(NULL, header.path_size, 1);
    uint8_t *data = mem_resize(NULL, header.size + 1, 1);
    if (!spool->path || !data || read_bytes_back(spool, spool->path, header.path_size, &got) < 0 ||
        read_bytes_back(spool, data, header.size, &got) < 0) {
        free(data);
        return -1;
    }
    data[header.size] = 0;
    *picture = (struct spooled_picture){
        .path = spool->path, .class = header.class, .data = data, .size = header.size};
    if (header.status == STATUS_OK)
        return 1;
    error_set(header.status, "%s", (const char *)data);
    free(data);
    picture->data = NULL;
    picture->bad = true;
    return 1;
}

void picture_spool_close(struct picture_spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    free(spool->path);
    *spool = (struct picture_spool){.fd = -1};
}
