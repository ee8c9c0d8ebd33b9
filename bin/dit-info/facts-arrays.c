// What an archive of NumPy arrays holds. SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "bin/dit-info/facts.h"
#include "formats/containers/arrays.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define ARRAY_BYTES ((size_t)1 << 20) // that are read at a time

// Reads an array to its end, where its checksum is compared.
static int check_array(struct array *array, void *buffer)
{
    const size_t most = ARRAY_BYTES / dtype_size(array->npy.dtype);
    for (size_t left = array->npy.count, n; left; left -= n) {
        n = left < most ? left : most;
        if (array_read(array, buffer, n) < 0)
            return -1;
    }
    return 0;
}

// Adds the array that a member of the archive holds. -1 with an error.
static int add_array_fact(json_t *tensors, const struct arrays *arrays,
                          const struct zip_member *member, void *buffer)
{
    char *name = mem_printf("%.*s", (int)(member->name_size - 4), member->name);
    struct array *array = name ? array_open(arrays, name) : NULL;
    int rc = array ? 0 : -1;
    if (rc == 0 && buffer)
        rc = check_array(array, buffer);
    if (rc == 0) {
        json_t *tensor = facts_tensor("", array->npy.dtype, array->npy.shape, array->npy.rank);
        json_t *text = json_string(name); // NULL if it is not UTF-8
        json_object_set_new(tensor, "name", text ? text : json_string("?"));
        json_array_append_new(tensors, tensor);
        progress_add(1);
    }
    array_close(array);
    free(name);
    return rc;
}

json_t *facts_of_arrays(const char *path, bool check)
{
    struct arrays arrays;
    if (arrays_open(&arrays, path) < 0)
        return NULL;
    json_t *tensors = json_array();
    void *buffer = check ? mem_new(ARRAY_BYTES, 1) : NULL;
    int rc = check && !buffer ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < arrays.zip.n; i++)
        rc = add_array_fact(tensors, &arrays, &arrays.zip.members[i], buffer);
    json_t *facts = rc == 0
                        ? json_pack("{s:s, s:O, s:I, s:b}", "kind", "arrays", "tensors", tensors,
                                    "bytes", (json_int_t)arrays.file.size, "checked", check)
                        : NULL;
    json_decref(tensors);
    free(buffer);
    arrays_close(&arrays);
    return facts;
}
