// Sums and copies between GPUs by NCCL, which is loaded only when a group is made or joined, so
// that a single GPU does not need it.
// SPDX-License-Identifier: MIT
#include "kernels/cuda/group.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __has_include(<nccl.h>)
#include <nccl.h>

#define LIBRARY        "libnccl.so.2"
#define OLDEST_VERSION NCCL_VERSION(2, 13, 0)

static_assert(sizeof(ncclUniqueId) == GROUP_NAME, "a group's name is NCCL's id");

#define NCCL_FUNCTIONS(F) \
    F(GetVersion)         \
    F(GetErrorString)     \
    F(GetLastError)       \
    F(GetUniqueId)        \
    F(CommInitRank)       \
    F(CommGetAsyncError)  \
    F(CommDestroy)        \
    F(CommAbort)          \
    F(AllReduce)          \
    F(Reduce)             \
    F(Broadcast)

struct nccl {
#define F(name) decltype(&nccl##name) name;
    NCCL_FUNCTIONS(F)
#undef F
};

struct group {
    struct nccl nccl;
    ncclComm_t comm;
    char fault[160]; // the first, or ""
};

static int load_nccl(struct nccl *nccl, char why[256])
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); // never closed
    if (!library) {
        snprintf(why, 256,
                 "%.90s; install NCCL (libnccl2) or put its folder into LD_LIBRARY_PATH, or train "
                 "with one rank",
                 dlerror());
        return -1;
    }
    bool complete = true;
    int version = 0;
#define F(name)                                                                        \
    nccl->name = reinterpret_cast<decltype(nccl->name)>(dlsym(library, "nccl" #name)); \
    complete = complete && nccl->name;
    NCCL_FUNCTIONS(F)
#undef F
    if (complete && nccl->GetVersion(&version) == ncclSuccess && version >= OLDEST_VERSION)
        return 0;
    snprintf(why, 256, LIBRARY " is older than 2.13; update NCCL, or train with one rank");
    return -1;
}

// Describes an error: NCCL's text for its kind, and the line that NCCL keeps about its cause.
static void describe_error(const struct nccl *nccl, ncclComm_t comm, ncclResult_t result,
                           char *text, size_t size)
{
    const char *cause = nccl->GetLastError(comm);
    const int length = cause ? static_cast<int>(strcspn(cause, "\n")) : 0;
    snprintf(text, size, "%s%s%.*s", nccl->GetErrorString(result), length ? ": " : "",
             length < 120 ? length : 120, cause ? cause : "");
}

int group_make(unsigned char name[GROUP_NAME], char why[256])
{
    struct nccl nccl;
    ncclUniqueId id;
    char text[160];
    if (load_nccl(&nccl, why) < 0)
        return -1;
    const ncclResult_t result = nccl.GetUniqueId(&id);
    if (result != ncclSuccess) {
        describe_error(&nccl, NULL, result, text, sizeof text);
        snprintf(why, 256, "NCCL finds no network (NCCL_SOCKET_IFNAME chooses one): %s", text);
        return -1;
    }
    memcpy(name, &id, sizeof id);
    return 0;
}

struct group *group_new(const unsigned char name[GROUP_NAME], int rank, int size, int gpu,
                        char why[256])
{
    struct group *group = static_cast<struct group *>(calloc(1, sizeof(struct group)));
    if (!group || load_nccl(&group->nccl, why) < 0) {
        if (!group)
            snprintf(why, 256, "out of memory");
        free(group);
        return NULL;
    }
    ncclUniqueId id;
    memcpy(&id, name, sizeof id);
    const ncclResult_t result = group->nccl.CommInitRank(&group->comm, size, id, rank);
    if (result == ncclSuccess)
        return group;
    describe_error(&group->nccl, NULL, result, group->fault, sizeof group->fault);
    if (strstr(group->fault, "Duplicate GPU"))
        snprintf(
            why, 256,
            "another rank has GPU %d of this machine too: ranks must not share a GPU; start at "
            "most as many as there are GPUs",
            gpu);
    else
        snprintf(why, 256, "NCCL can't join the ranks (NCCL_DEBUG=INFO says more): %s",
                 group->fault);
    free(group);
    return NULL;
}

void group_free(struct group *group, bool abort)
{
    if (abort)
        group->nccl.CommAbort(group->comm);
    else
        group->nccl.CommDestroy(group->comm);
    free(group);
}

static void keep_error(struct group *group, ncclResult_t result)
{
    if (result != ncclSuccess && result != ncclInProgress && !group->fault[0])
        describe_error(&group->nccl, group->comm, result, group->fault, sizeof group->fault);
}

void group_sum(struct group *group, void *x, size_t n, enum group_type type, int root,
               cudaStream_t stream)
{
    const ncclDataType_t element = type == GROUP_DOUBLE ? ncclFloat64 : ncclFloat32;
    keep_error(group,
               root == GROUP_ALL
                   ? group->nccl.AllReduce(x, x, n, element, ncclSum, group->comm, stream)
                   : group->nccl.Reduce(x, x, n, element, ncclSum, root, group->comm, stream));
}

void group_broadcast(struct group *group, void *x, size_t bytes, int root, cudaStream_t stream)
{
    keep_error(group, group->nccl.Broadcast(x, x, bytes, ncclUint8, root, group->comm, stream));
}

const char *group_fault(struct group *group)
{
    ncclResult_t result = ncclSuccess;
    keep_error(group, group->nccl.CommGetAsyncError(group->comm, &result));
    keep_error(group, result);
    return group->fault[0] ? group->fault : NULL;
}

#else // without NCCL no group is ever made
int group_make(unsigned char[GROUP_NAME], char why[256])
{
    snprintf(why, 256,
             "this build of the CUDA plug-in is without NCCL: nccl.h was missing; make it again "
             "with NCCL (libnccl-dev), or train with one rank");
    return -1;
}

struct group *group_new(const unsigned char name[GROUP_NAME], int, int, int, char why[256])
{
    unsigned char other[GROUP_NAME];
    (void)name;
    group_make(other, why);
    return NULL;
}

void group_free(struct group *, bool)
{
}

void group_sum(struct group *, void *, size_t, enum group_type, int, cudaStream_t)
{
}

void group_broadcast(struct group *, void *, size_t, int, cudaStream_t)
{
}

const char *group_fault(struct group *)
{
    return NULL;
}
#endif
