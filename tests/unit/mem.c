// Arrays that grow keep their elements, and sizes that overflow are refused.
// SPDX-License-Identifier: MIT
#include "lib/base/mem.h"

#include <malloc.h>
#include <string.h>

#include "lib/base/error.h"
#include "tests/tap.h"

static void test_growing(void)
{
    enum { N = 100000 };
    int *array = NULL, good = 0;
    size_t room = 0;
    for (int i = 0; i < N; i++) {
        if (mem_grow(&array, (size_t)i, 1, sizeof *array) < 0)
            break;
        array[i] = i;
        if (i == 1024)
            room = malloc_usable_size(array) / sizeof *array;
    }
    for (int i = 0; i < N; i++)
        good += array[i] == i;
    ok(good == N, "an array that grows by one keeps its elements");
    ok(room >= 2048, "a full array of 1024 elements at least doubles: room for %zu", room);
    ok(mem_grow(&array, N, 5 * N, sizeof *array) == 0, "an array grows by many elements");
    memset(array + N, 0, 5 * N * sizeof *array);
    ok(array[0] == 0 && array[N - 1] == N - 1, "growing by many keeps the elements");
    ok(mem_grow(&array, 3, 1, sizeof *array) == 0 && array[2] == 2,
       "an array whose count has fallen grows from there");
    free(array);
}

static void test_overflow(void)
{
    int *array = NULL;
    ok(mem_grow(&array, 0, 1, sizeof *array) == 0, "an array of one element");
    int *before = array;
    const size_t sizes[][2] = {{1, SIZE_MAX}, {SIZE_MAX, 1}, {1, SIZE_MAX / 4}, {1, SIZE_MAX / 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        ok(mem_grow(&array, sizes[i][0], sizes[i][1], 16) == -1 &&
               error_status() == STATUS_INTERNAL && array == before,
           "%zu + %zu elements are refused: %s", sizes[i][0], sizes[i][1], error_message());
    free(array);
    size_t out;
    ok(size_mul(SIZE_MAX / 2, 2, &out) && !size_mul(SIZE_MAX / 2 + 1, 2, &out),
       "size_mul refuses the first product that overflows");
    ok(!mem_new(SIZE_MAX, 2) && strstr(error_message(), "out of memory"),
       "mem_new refuses a product that overflows: %s", error_message());
}

int main(void)
{
    test_growing();
    test_overflow();
    return tap_done();
}
