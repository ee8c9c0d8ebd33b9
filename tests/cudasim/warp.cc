// The warp-wide functions: shuffles, votes, ldmatrix and mma; and cp.async.
// SPDX-License-Identifier: MIT
#include <vector>

#include "sim.h"

namespace cudasim
{
struct shuffle {
    uint64_t value, result;
    unsigned from;
};

static void perform_exchange(void *const args[32], unsigned mask)
{
    for (unsigned left = mask; left; left &= left - 1) {
        const unsigned i = __builtin_ctz(left);
        shuffle &s = *static_cast<shuffle *>(args[i]);
        if (!args[s.from])
            fault("shuffle: lane %u reads lane %u, which is not in the mask 0x%08x", i, s.from,
                  mask);
        s.result = static_cast<shuffle *>(args[s.from])->value;
    }
}

uint64_t exchange(const char *what, unsigned mask, unsigned from, uint64_t value,
                  source_location at)
{
    shuffle s = {value, 0, from};
    sync_lanes(what, mask, at, &s, perform_exchange);
    return s.result;
}

static void perform_ballot(void *const args[32], unsigned mask)
{
    unsigned votes = 0;
    for (unsigned left = mask; left; left &= left - 1)
        votes |= *static_cast<unsigned *>(args[__builtin_ctz(left)]) << __builtin_ctz(left);
    for (unsigned left = mask; left; left &= left - 1)
        *static_cast<unsigned *>(args[__builtin_ctz(left)]) = votes;
}

unsigned ballot(const char *what, unsigned mask, bool predicate, source_location at)
{
    unsigned vote = predicate;
    sync_lanes(what, mask, at, &vote, perform_ballot);
    return vote;
}

struct load {
    unsigned *r;
    int n;
    bool transposed;
    const unsigned char *row;
    source_location at;
};

static void perform_load(void *const args[32], unsigned)
{
    const load *const *lanes = reinterpret_cast<const load *const *>(args);
    for (int m = 0; m < lanes[0]->n; m++) {
        uint16_t matrix[8][8];
        for (int i = 0; i < 8; i++) {
            const load &l = *lanes[m * 8 + i];
            if (reinterpret_cast<uintptr_t>(l.row) % 16)
                fault("ldmatrix at %s:%d: row %d of matrix %d (lane %d) is at %p, misaligned: 16 "
                      "bytes are needed",
                      l.at.file, l.at.line, i, m, m * 8 + i, static_cast<const void *>(l.row));
            if (!is_shared(l.row, 16))
                fault("ldmatrix at %s:%d: row %d of matrix %d (lane %d) is not in shared memory",
                      l.at.file, l.at.line, i, m, m * 8 + i);
            memcpy(matrix[i], l.row, 16);
        }
        for (int i = 0; i < 32; i++) {
            const int g = i / 4, t = i % 4 * 2;
            const unsigned low = lanes[i]->transposed ? matrix[t][g] : matrix[g][t];
            const unsigned high = lanes[i]->transposed ? matrix[t + 1][g] : matrix[g][t + 1];
            lanes[i]->r[m] = low | high << 16;
        }
    }
}

void load_matrices(unsigned *r, int n, bool transposed, const void *row, source_location at)
{
    load l = {r, n, transposed, static_cast<const unsigned char *>(row), at};
    sync_lanes(transposed ? "ldmatrix_trans" : "ldmatrix", ~0u, at, &l, perform_load);
}

struct product {
    float *d;
    const unsigned *a;
    unsigned b[2];
};

// Eight floats, which the compiler keeps in vector registers.
typedef float row __attribute__((vector_size(32)));

// d += A B: adds the products to d one by one in order of k and rounds each sum to float32. The
// products are exact in float32. (A tensor core adds several at a time and truncates.)
template <int K>
static void multiply(const product *const *lanes, const float (&a)[16][K], const row (&b)[K])
{
    for (int m = 0; m < 16; m++) {
        const product *const *owners = lanes + m % 8 * 4; // each of two of the row's columns
        const int at = m / 8 * 2;
        row d;
        for (int n = 0; n < 8; n++)
            d[n] = owners[n / 2]->d[at + n % 2];
        for (int k = 0; k < K; k++)
            d += a[m][k] * b[k];
        for (int n = 0; n < 8; n++)
            owners[n / 2]->d[at + n % 2] = d[n];
    }
}

static void perform_bf16(void *const args[32], unsigned)
{
    const product *const *lanes = reinterpret_cast<const product *const *>(args);
    float a[16][16];
    row b[16];
    for (int i = 0; i < 32; i++) {
        const int g = i / 4, t = i % 4 * 2;
        for (int j = 0; j < 4; j++) {
            const unsigned pair = lanes[i]->a[j];
            a[g + j % 2 * 8][t + j / 2 * 8] = __uint_as_float(pair << 16);
            a[g + j % 2 * 8][t + j / 2 * 8 + 1] = __uint_as_float(pair & 0xffff0000);
        }
        for (int j = 0; j < 2; j++) {
            b[t + j * 8][g] = __uint_as_float(lanes[i]->b[j] << 16);
            b[t + j * 8 + 1][g] = __uint_as_float(lanes[i]->b[j] & 0xffff0000);
        }
    }
    multiply(lanes, a, b);
}

static void perform_tf32(void *const args[32], unsigned)
{
    const product *const *lanes = reinterpret_cast<const product *const *>(args);
    float a[16][8];
    row b[8];
    for (int i = 0; i < 32; i++) {
        const int g = i / 4, t = i % 4;
        for (int j = 0; j < 4; j++)
            a[g + j % 2 * 8][t + j / 2 * 4] = __uint_as_float(lanes[i]->a[j] & ~0x1fffu);
        for (int j = 0; j < 2; j++)
            b[t + j * 4][g] = __uint_as_float(lanes[i]->b[j] & ~0x1fffu);
    }
    multiply(lanes, a, b);
}

void multiply_bf16(float *d, const unsigned *a, unsigned b0, unsigned b1, source_location at)
{
    product p = {d, a, {b0, b1}};
    sync_lanes("mma_bf16", ~0u, at, &p, perform_bf16);
}

void multiply_tf32(float *d, const unsigned *a, unsigned b0, unsigned b1, source_location at)
{
    product p = {d, a, {b0, b1}};
    sync_lanes("mma_tf32", ~0u, at, &p, perform_tf32);
}

// A copy may happen at any time between its start and the wait for it. So each happens, at random,
// either immediately or at the wait; until then its bytes are poisoned. Without a wait it may never
// happen.
struct copy {
    void *to;
    const void *from;
    int bytes, valid;
    unsigned group;
};
static struct {
    std::vector<copy> pending;
    unsigned groups;
} copies[1024];

void copies_forget(unsigned thread)
{
    copies[thread].pending.clear();
    copies[thread].groups = 0;
}

static void copy_finish(const copy &c)
{
    memcpy(c.to, c.from, c.valid);
    memset(static_cast<char *>(c.to) + c.valid, 0, c.bytes - c.valid);
}

void copy_start(void *to_shared, const void *from, int bytes, int valid, source_location at)
{
    if (reinterpret_cast<uintptr_t>(to_shared) % bytes || reinterpret_cast<uintptr_t>(from) % bytes)
        fault("cp_async at %s:%d: from %p to %p is misaligned for %d bytes", at.file, at.line, from,
              to_shared, bytes);
    if (valid < 0 || valid > bytes)
        fault("cp_async at %s:%d: %d valid bytes of %d", at.file, at.line, valid, bytes);
    if (!is_shared(to_shared, bytes))
        fault("cp_async at %s:%d: the target is not in shared memory", at.file, at.line);
    if (valid && !is_device(from, valid))
        fault("cp_async at %s:%d: the source is not in an allocation", at.file, at.line);
    const copy c = {to_shared, from, bytes, valid, copies[current].groups};
    if (random_below(2)) {
        copy_finish(c);
        return;
    }
    memset(to_shared, poison, bytes);
    copies[current].pending.push_back(c);
}

void copy_commit()
{
    copies[current].groups++;
}

void copy_wait(int groups)
{
    auto &mine = copies[current];
    size_t kept = 0;
    for (const copy &c : mine.pending)
        if (c.group + groups < mine.groups)
            copy_finish(c);
        else
            mine.pending[kept++] = c;
    mine.pending.resize(kept);
}
} // namespace cudasim
