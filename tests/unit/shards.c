// Files of a training set are recognised: any that is missing, doubled, changed or moved is named.
// SPDX-License-Identifier: MIT
#include "formats/latents/shards.h"

#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "tests/tap.h"

enum { COUNT = 4, FILES_MAX = 12 };

static char folder[] = "/tmp/shards-XXXXXX";

static char *path_of(const char *name)
{
    return mem_printf("%s/%s", folder, name);
}

// Writes a stream of `rows` numbers from `first` on; a shard if `shard` is not NULL.
static void write_stream(const char *name, int64_t first, size_t rows, const struct shard *shard)
{
    struct schema *schema = schema_new("latents");
    schema_add(schema, "label", DTYPE_I64, NULL, 0);
    char *path = path_of(name);
    if (shard && shard_mark(schema, shard) < 0)
        exit(1);
    struct tstream_writer *out = tstream_create(output_open(path), schema, 1, 1);
    struct batch *batch = batch_new(schema, rows);
    for (size_t i = 0; i < rows; i++)
        ((int64_t *)batch->data[0])[i] = first + (int64_t)i;
    if (tstream_write(out, batch) < 0 || tstream_finish(out) < 0)
        exit(1);
    schema_free(schema);
    free(path);
}

struct files {
    size_t n;
    struct tstream_file *files[FILES_MAX];
    uint64_t hashes[FILES_MAX];
};

// names: separated by spaces.
static void open_all(struct files *all, const char *names)
{
    char list[300], *rest = list;
    snprintf(list, sizeof(list), "%s", names);
    for (char *name; (name = strsep(&rest, " ")); all->n++) {
        char *path = path_of(name);
        if (!(all->files[all->n] = tstream_file_open(path))) {
            diag("%s", error_message());
            exit(1);
        }
        free(path);
    }
    if (shards_hash(all->files, all->n, 2, all->hashes) < 0)
        exit(1);
}

static void close_all(struct files *all)
{
    for (size_t i = 0; i < all->n; i++)
        tstream_file_close(all->files[i]);
    all->n = 0;
}

// said: a part of the expected error message; NULL if there must be no error.
static void test_set(const char *what, const char *names, bool partial, const char *said)
{
    struct files all = {0};
    open_all(&all, names);
    int rc = shards_check(all.files, all.n, partial);
    ok(said ? rc < 0 && error_status() == STATUS_DATA && strstr(error_message(), said) : rc == 0,
       "%s", what);
    if (rc)
        diag("%s", error_message());
    close_all(&all);
}

static void test_sets(void)
{
    const char *whole = "a0 a1 a2 a3";
    test_set("a whole set is good", whole, false, NULL);
    test_set("a whole set in any order is good", "a3 a1 a0 a2", false, NULL);
    test_set("the first shard is missing", "a1 a2 a3", false,
             "a1: shard-00000 of the 4 shards of its set is missing (");
    test_set("the first shard is missing and is named", "a1 a2 a3", false,
             "shard-00000 of the 4 shards");
    test_set("a shard in the middle is missing", "a0 a1 a3", false, "shard-00002 of the 4 shards");
    test_set("the last shard is missing", "a0 a1 a2", false, "shard-00003 of the 4 shards");
    test_set("three shards are missing", "a2", false,
             "shard-00000 and 2 more of the 4 shards of its set are missing (");
    test_set("part of a set is good if that is wanted", "a3 a1", true, NULL);
    test_set("a shard comes twice", "a0 a1 a2 a3 a1", false, "a1: the same shard as ");
    test_set("a shard comes twice where part of a set is wanted", "a1 a2 a1", true,
             "a1: the same shard as ");
    test_set("two whole sets are good", "a0 b0 b1 a1 a2 a3", false, NULL);
    test_set("a set and other files are good", "plain a0 a1 other a2 a3", false, NULL);
    test_set("files without a set are good", "plain plain", false, NULL);
    test_set("shards of two sets are named", "a0 a1 b1", false, "is of another set");
    test_set("streams made from shards are no shards", "joined less", false, NULL);
    test_set("streams made from shards are no shards beside a set", "joined a0 a1 a2 a3 less",
             false, NULL);
    test_set("a stream whose shard index is out of range is no shard", "odd", false, NULL);
}

// Compares the description of the files `before` with the files `after`.
static void test_compare(const char *what, const char *before, const char *after, const char *said)
{
    struct files old = {0}, new = {0};
    open_all(&old, before);
    open_all(&new, after);
    json_t *list = shards_describe(old.files, old.hashes, old.n);
    char *text = json_dumps(list, 0);
    int rc = shards_compare(new.files, new.hashes, new.n, text);
    ok(said ? rc < 0 && error_status() == STATUS_DATA && strstr(error_message(), said) : rc == 0,
       "%s", what);
    if (rc)
        diag("%s", error_message());
    json_decref(list);
    free(text);
    close_all(&old);
    close_all(&new);
}

// More files than a description lists; only their hashes count.
static void test_many(void)
{
    static uint64_t hashes[SHARDS_LISTED_MAX + 1];
    const size_t n = SHARDS_LISTED_MAX + 1;
    json_t *sum = shards_describe(NULL, hashes, n);
    char *text = json_dumps(sum, JSON_COMPACT);
    ok(strlen(text) < 60 && shards_compare(NULL, hashes, n, text) == 0,
       "many files are described by one hash: %s", text);
    ok(shards_compare(NULL, hashes, n - 1, text) < 0 &&
           strstr(error_message(), "now 1000 files, before 1001"),
       "one file less is told: %s", error_message());
    hashes[7] = 1;
    ok(shards_compare(NULL, hashes, n, text) < 0 && strstr(error_message(), "some of the 1001"),
       "a changed one of many files is told: %s", error_message());
    json_decref(sum);
    free(text);
}

static void test_comparisons(void)
{
    test_compare("the same files are equal", "a0 a1 plain", "a0 a1 plain", NULL);
    test_compare("a file by another name is equal", "plain a1", "plain2 a1", NULL);
    test_compare("a missing file is named", "a0 a1 a2 a3", "a0 a1 a3",
                 "not the same data: missing: a2");
    test_compare("three of five missing files are named", "a0 a1 a2 a3 b0 b1", "a1",
                 "not the same data: missing: a0, a2, a3 and 2 more");
    test_compare("a new file is named", "a0 a1", "a0 plain a1", "not the same data: new: plain");
    test_compare("a file that comes twice is named", "a0 a1", "a0 a1 a0",
                 "not the same data: new: a0");
    test_compare("files in another order are named", "a0 a1 a2", "a0 a2 a1",
                 "not the same data: another order: a2 comes where a1 was");
    test_compare("missing and new files are named", "a0 a1 a2", "a2 a3 a0",
                 "not the same data: missing: a1; new: a3");

    struct files all = {0};
    open_all(&all, "a0 plain a1");
    json_t *list = shards_describe(all.files, all.hashes, all.n);
    char *text = json_dumps(list, 0);
    close_all(&all);
    write_stream("plain", 78, COUNT, NULL);
    open_all(&all, "a0 plain a1");
    ok(shards_compare(all.files, all.hashes, all.n, text) < 0 &&
           strstr(error_message(), "not the same data: changed: plain"),
       "a changed file is named: %s", error_message());
    close_all(&all);
    open_all(&all, "plain a1 a2");
    ok(shards_compare(all.files, all.hashes, all.n, text) < 0 &&
           strstr(error_message(), "missing: a0; changed: plain; new: a2"),
       "missing, changed and new files are named: %s", error_message());
    json_decref(list);
    free(text);
    static const char *const broken[] = {"", "{}", "[", "nonsense"};
    bool good = true;
    for (size_t i = 0; i < 4; i++)
        good = good && shards_compare(all.files, all.hashes, all.n, broken[i]) < 0 &&
               error_status() == STATUS_DATA;
    ok(good, "a description that is no list is an error: %s", error_message());
    ok(shards_compare(all.files, all.hashes, all.n, "[1, {}, {\"name\": 2}]") < 0 &&
           strstr(error_message(), "new: plain"),
       "a list that describes no files differs from any files: %s", error_message());
    close_all(&all);
}

static void test_hash_error(void)
{
    struct files all = {0};
    open_all(&all, "a0 plain");
    char *path = path_of("plain");
    bool good = truncate(path, 100) == 0;
    ok(good && shards_hash(all.files, all.n, 2, all.hashes) < 0 && error_status() == STATUS_DATA &&
           strstr(error_message(), path),
       "a file that became shorter cannot be hashed");
    free(path);
    close_all(&all);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    char name[] = "a0", command[128];
    for (size_t i = 0; i < 6; i++) {
        struct shard shard = {.set = i < 4 ? 77 : UINT64_MAX,
                              .index = i < 4 ? i : i - 4,
                              .count = i < 4 ? 4 : 2,
                              .records = COUNT};
        snprintf(name, sizeof(name), "%c%d", i < 4 ? 'a' : 'b', (int)shard.index);
        write_stream(name, 10 * (int64_t)i, COUNT, &shard);
    }
    write_stream("plain", 77, COUNT, NULL);
    write_stream("plain2", 77, COUNT, NULL);
    write_stream("other", 99, COUNT, NULL);
    write_stream("less", 0, COUNT - 1, &(struct shard){77, 0, 4, COUNT});
    write_stream("odd", 0, COUNT, &(struct shard){77, 4, 4, COUNT});
    snprintf(command, sizeof(command), "cd %s && cat a0 a1 a2 a3 >joined", folder);
    ok(system(command) == 0, "shards with different numbers can be joined");
    test_sets();
    test_comparisons();
    test_many();
    test_hash_error();
    snprintf(command, sizeof(command), "rm -r %s", folder);
    ok(system(command) == 0, "the folder is removed");
    return tap_done();
}
