// The memory that frames take, and a pool of zstd contexts.
// SPDX-License-Identifier: MIT
#include <zstd.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"

size_t frames_memory(size_t threads)
{
    return (threads > 2 ? threads : 2) * TSTREAM_LARGE;
}

size_t frame_memory(size_t content)
{
    return content + ZSTD_compressBound(content);
}

void contexts_init_decompress(struct contexts *contexts, size_t room)
{
    *contexts = (struct contexts){.compress = false, .room = room};
    pthread_mutex_init(&contexts->lock, NULL);
}

void contexts_init_compress(struct contexts *contexts, int level)
{
    *contexts = (struct contexts){.compress = true, .level = level, .room = CONTEXTS_MAX};
    pthread_mutex_init(&contexts->lock, NULL);
}

static void *create_context(const struct contexts *contexts)
{
    if (!contexts->compress)
        return ZSTD_createDCtx();
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context) {
        ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, contexts->level);
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    }
    return context;
}

static void free_context(const struct contexts *contexts, void *context)
{
    if (contexts->compress)
        ZSTD_freeCCtx(context);
    else
        ZSTD_freeDCtx(context);
}

void *contexts_acquire(struct contexts *contexts)
{
    pthread_mutex_lock(&contexts->lock);
    void *context = contexts->n ? contexts->idle[--contexts->n] : NULL;
    pthread_mutex_unlock(&contexts->lock);
    if (!context && !(context = create_context(contexts)))
        error_set(STATUS_INTERNAL, "out of memory for a zstd context");
    return context;
}

void contexts_release(struct contexts *contexts, void *context)
{
    if (!context)
        return;
    if (contexts->compress)
        ZSTD_CCtx_reset(context, ZSTD_reset_session_only);
    else
        ZSTD_DCtx_reset(context, ZSTD_reset_session_only);
    pthread_mutex_lock(&contexts->lock);
    bool room = contexts->n < contexts->room;
    if (room)
        contexts->idle[contexts->n++] = context;
    pthread_mutex_unlock(&contexts->lock);
    if (!room)
        free_context(contexts, context);
}

void contexts_free(struct contexts *contexts)
{
    while (contexts->n)
        free_context(contexts, contexts->idle[--contexts->n]);
    pthread_mutex_destroy(&contexts->lock);
}
