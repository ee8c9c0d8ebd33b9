// The Frechet distance by singular values. SPDX-License-Identifier: MIT
//
// With S1 = A A^T and S2 = B B^T, the eigenvalues of S1 S2 that are not 0 are the squares of the
// singular values of B^T A, so that tr (S1 S2)^(1/2) is their sum. The roots of computed
// eigenvalues would have half of the digits: an eigenvalue that should be 0 comes out as 1e-16 of
// the largest, and its root as 1e-8. A singular value is off by 1e-16 of the largest.
#include "lib/evaluation/frechet.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "lib/base/team.h"

#define PANEL  64 // rows of a factor that are found at a time
#define WIDTH  64 // reflections, two for each column, that are applied at a time
#define ACROSS 16 // singular values that are searched side by side

struct matrix_f64 {
    size_t rows, columns;
    double *at; // (rows,columns)
};

// The next pivot: the column with the most variance left. SIZE_MAX if what is left is rounding.
static size_t find_pivot(const double *left, size_t D, double least)
{
    size_t pivot = 0;
    for (size_t i = 1; i < D; i++)
        if (left[i] > left[pivot])
            pivot = i;
    return left[pivot] > least ? pivot : SIZE_MAX;
}

// Sets row k of R to what rows first .. k - 1 leave of row `pivot` of rest, scaled, and takes its
// squares from `left`.
static void add_row(const struct matrix_f64 *R, size_t first, size_t k, const double *rest,
                    size_t pivot, double *left)
{
    const size_t D = R->columns;
    const double scale = 1 / sqrt(left[pivot]);
    double *restrict row = R->at + k * D;
    memcpy(row, rest + pivot * D, D * sizeof *row);
    for (size_t m = first; m < k; m++) {
        const double *above = R->at + m * D, factor = above[pivot];
        for (size_t j = 0; j < D; j++)
            row[j] -= factor * above[j];
    }
    for (size_t j = 0; j < D; j++) {
        row[j] *= scale;
        left[j] -= row[j] * row[j];
    }
    left[pivot] = -INFINITY;
}

// rest -= P^T P, where P is rows first .. of R. panel: 2 D PANEL doubles.
static void subtract_panel(struct device *host, const struct matrix_f64 *R, size_t first,
                           double *rest, double *panel)
{
    const size_t D = R->columns, n = R->rows - first;
    double *negative = panel + D * PANEL;
    for (size_t k = 0; k < n; k++)
        for (size_t j = 0; j < D; j++) {
            panel[j * n + k] = R->at[(first + k) * D + j];
            negative[j * n + k] = -panel[j * n + k];
        }
    op_product_f64(host, rest, panel, negative, D, n, D);
}

// Cholesky's factorization with pivots, which stops at the rank of S (D,D): S = R^T R. The columns
// of R keep the order of S. A panel of rows is found at a time; then what it leaves of S. -1 with
// an error.
static int factor_covariance(struct device *host, struct matrix_f64 *R, size_t D, const double *S)
{
    double *left = mem_new(D, sizeof *left); // the diagonal of what is left
    double *rest = mem_new(D, D * sizeof *rest);
    double *panel = mem_new(D, 2 * PANEL * sizeof *panel), largest = 0;
    *R = (struct matrix_f64){.columns = D, .at = mem_new(D, D * sizeof *R->at)};
    const int rc = left && rest && panel && R->at ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < D; i++) {
        left[i] = S[i * D + i];
        largest = fmax(largest, left[i]);
        // A published covariance may differ from its transpose in the last digit.
        for (size_t j = 0; j < D; j++)
            rest[i * D + j] = 0.5 * (S[i * D + j] + S[j * D + i]);
    }
    const double least = largest * (double)D * DBL_EPSILON;
    size_t pivot = 0;
    for (size_t first = 0; rc == 0 && first < D && pivot != SIZE_MAX; first = R->rows) {
        while (R->rows < D && R->rows < first + PANEL &&
               (pivot = find_pivot(left, D, least)) != SIZE_MAX) {
            add_row(R, first, R->rows, rest, pivot, left);
            R->rows++;
        }
        subtract_panel(host, R, first, rest, panel);
    }
    free(left);
    free(rest);
    free(panel);
    return rc;
}

// Makes the reflection I - scale v v^T that takes x (n) to (*first, 0, ..., 0); v replaces x.
// Returns the scale, 0 where there is nothing to do.
static double make_reflection(double *x, size_t n, double *first)
{
    double squares = 0;
    for (size_t i = 1; i < n; i++)
        squares += x[i] * x[i];
    *first = x[0];
    if (squares == 0)
        return 0;
    *first = -copysign(sqrt(x[0] * x[0] + squares), x[0]);
    x[0] -= *first;
    return 2 / (x[0] * x[0] + squares);
}

// In several sums, as one would wait for each addition before the next.
static double dot_f64(const double *a, const double *b, size_t n)
{
    double sums[8] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++)
            sums[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (size_t k = 0; k < 8; k++)
        sum += sums[k];
    return sum;
}

// A matrix that is being reduced: C - L R^T, where the q columns of L (rows,WIDTH) and R
// (columns,WIDTH) are the reflections that C does not hold yet. So a reflection only reads C.
struct reduction {
    size_t rows, columns, q;
    double *C; // (rows,columns)
    double *L, *R;
    struct team *team;
};

// A product of C - L R^T, or its transpose, with x: what all threads share.
struct reduction_product {
    const struct reduction *r;
    double *to, scale;
    const double *x;
    const double *shares; // L^T x or R^T x
    size_t first_row, first_column;
};

#define CHUNK 256 // columns that a thread takes at a time

static void multiply_left_columns(const void *context, struct team_range range)
{
    const struct reduction_product *p = context;
    const struct reduction *r = p->r;
    const size_t first = p->first_column + range.first, n = range.end - range.first;
    const size_t stride = r->columns;
    const double *x = p->x;
    double *restrict to = p->to + first;
    size_t i = p->first_row;
    memset(to, 0, n * sizeof *to);
    for (; i + 4 <= r->rows; i += 4) {
        const double *a = r->C + i * stride + first, *b = a + stride, *c = b + stride;
        const double *d = c + stride, x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
        for (size_t j = 0; j < n; j++)
            to[j] += x0 * a[j] + x1 * b[j] + (x2 * c[j] + x3 * d[j]);
    }
    for (; i < r->rows; i++)
        for (size_t j = 0; j < n; j++)
            to[j] += x[i] * r->C[i * stride + first + j];
    for (size_t j = 0; j < n; j++)
        to[j] = p->scale * (to[j] - dot_f64(r->R + (first + j) * WIDTH, p->shares, r->q));
}

static void multiply_right_rows(const void *context, struct team_range range)
{
    const struct reduction_product *p = context;
    const struct reduction *r = p->r;
    const size_t from = p->first_column, n = r->columns - from;
    for (size_t i = p->first_row + range.first; i < p->first_row + range.end; i++)
        p->to[i] = p->scale * (dot_f64(r->C + i * r->columns + from, p->x + from, n) -
                               dot_f64(r->L + i * WIDTH, p->shares, r->q));
}

// shares = M^T x for rows first .. end - 1 of M (.,WIDTH), of which q columns are used.
static void find_shares(double shares[WIDTH], const double *M, const double *x, size_t first,
                        size_t end, size_t q)
{
    memset(shares, 0, WIDTH * sizeof *shares);
    for (size_t i = first; i < end; i++)
        for (size_t k = 0; k < q; k++)
            shares[k] += M[i * WIDTH + k] * x[i];
}

// to = scale (C - L R^T)^T v, for columns first_column .. and with v of rows first_row ...
static void multiply_left(const struct reduction *r, double *to, double scale, const double *v,
                          size_t first_row, size_t first_column)
{
    double shares[WIDTH];
    find_shares(shares, r->L, v, first_row, r->rows, r->q);
    const struct reduction_product p = {r, to, scale, v, shares, first_row, first_column};
    team_for(r->team, r->columns - first_column, CHUNK, multiply_left_columns, &p);
}

// to = scale (C - L R^T) u, for rows first_row .. and with u of columns first_column ...
static void multiply_right(const struct reduction *r, double *to, double scale, const double *u,
                           size_t first_row, size_t first_column)
{
    double shares[WIDTH];
    find_shares(shares, r->R, u, first_column, r->columns, r->q);
    const struct reduction_product p = {r, to, scale, u, shares, first_row, first_column};
    team_for(r->team, r->rows - first_row, 64, multiply_right_rows, &p);
}

// Subtracts left (rows) right (columns)^T, beginning at this row and column.
static void subtract_outer(struct reduction *r, const double *left, size_t first_row,
                           const double *right, size_t first_column)
{
    for (size_t i = 0; i < r->rows; i++)
        r->L[i * WIDTH + r->q] = i < first_row ? 0 : left[i];
    for (size_t j = 0; j < r->columns; j++)
        r->R[j * WIDTH + r->q] = j < first_column ? 0 : right[j];
    r->q++;
}

// C -= L R^T, as far as it is still needed: from this row on.
static void apply_reflections(struct device *host, struct reduction *r, size_t first_row)
{
    for (size_t i = 0; i < r->rows; i++)
        for (size_t k = 0; k < WIDTH; k++)
            r->L[i * WIDTH + k] = k < r->q ? -r->L[i * WIDTH + k] : 0;
    for (size_t j = 0; j < r->columns; j++)
        for (size_t k = r->q; k < WIDTH; k++)
            r->R[j * WIDTH + k] = 0;
    op_product_f64(host, r->C + first_row * r->columns, r->L + first_row * WIDTH, r->R,
                   r->rows - first_row, WIDTH, r->columns);
    r->q = 0;
}

// Reduces C (rows,columns), rows >= columns, to a bidiagonal matrix with the same singular values:
// its diagonal (columns), and what stands above it (columns - 1). C is overwritten, work (2 rows +
// 2 columns) too. Golub and Kahan, "Calculating the singular values and pseudo-inverse of a
// matrix", 1965; in panels, as LAPACK does.
static void reduce_to_bidiagonal(struct device *host, struct reduction *r, double *diagonal,
                                 double *above, double *work)
{
    const size_t m = r->rows, n = r->columns;
    double *v = work, *z = v + m, *w = z + m, *u = w + n;
    for (size_t k = 0; k < n; k++) {
        if (r->q == WIDTH)
            apply_reflections(host, r, k);
        for (size_t i = k; i < m; i++)
            v[i] = r->C[i * n + k] - dot_f64(r->L + i * WIDTH, r->R + k * WIDTH, r->q);
        double scale = make_reflection(v + k, m - k, &diagonal[k]);
        if (k + 1 == n)
            return;
        multiply_left(r, w, scale, v, k, k + 1);
        subtract_outer(r, v, k, w, k + 1);
        for (size_t j = k + 1; j < n; j++)
            u[j] = r->C[k * n + j] - dot_f64(r->R + j * WIDTH, r->L + k * WIDTH, r->q);
        scale = make_reflection(u + k + 1, n - k - 1, &above[k]);
        multiply_right(r, z, scale, u, k + 1, k + 1);
        subtract_outer(r, z, k + 1, u, k + 1);
    }
}

// Counts the singular values below each x of a bidiagonal matrix: they are the positive eigenvalues
// of the symmetric tridiagonal matrix with zeros on its diagonal and squares[2n - 1], whose roots
// are d0 e0 d1 e1 ..., beside it. (Demmel and Kahan, "Accurate singular values of bidiagonal
// matrices", 1990.)
static void count_below(size_t counts[ACROSS], const double x[ACROSS], const double *squares,
                        size_t n)
{
    double q[ACROSS];
    long negative[ACROSS];
    for (size_t a = 0; a < ACROSS; a++) {
        q[a] = -x[a];
        negative[a] = q[a] < 0;
    }
    for (size_t i = 0; i + 1 < 2 * n; i++)
        for (size_t a = 0; a < ACROSS; a++) {
            q[a] = fabs(q[a]) < DBL_MIN ? -DBL_MIN : q[a];
            q[a] = -x[a] - squares[i] / q[a];
            negative[a] += q[a] < 0;
        }
    for (size_t a = 0; a < ACROSS; a++)
        counts[a] = (size_t)negative[a] - n; // n of the eigenvalues are not positive
}

struct bisection {
    const double *squares; // as count_below takes them
    double *values;        // (n)
    double most;           // a bound of them all
    size_t n;
};

// Groups of ACROSS singular values.
static void bisect_values(const void *context, struct team_range range)
{
    const struct bisection *p = context;
    for (size_t first = range.first * ACROSS; first < range.end * ACROSS; first += ACROSS) {
        double low[ACROSS] = {0}, high[ACROSS], middle[ACROSS];
        for (size_t a = 0; a < ACROSS; a++)
            high[a] = p->most;
        for (int step = 0; step < 64; step++) {
            size_t counts[ACROSS];
            for (size_t a = 0; a < ACROSS; a++)
                middle[a] = 0.5 * (low[a] + high[a]);
            count_below(counts, middle, p->squares, p->n);
            for (size_t a = 0; a < ACROSS; a++)
                if (counts[a] > first + a)
                    high[a] = middle[a];
                else
                    low[a] = middle[a];
        }
        for (size_t a = 0; a < ACROSS && first + a < p->n; a++)
            p->values[first + a] = middle[a];
    }
}

// The sum of the singular values, each found by bisection. work: 3 n.
static double sum_singular_values(const double *diagonal, const double *above, double *work,
                                  size_t n, struct team *team)
{
    double most = 0, sum = 0, *values = work + 2 * n;
    for (size_t i = 0; i < n; i++) {
        const double e = i + 1 < n ? above[i] : 0, before = i ? above[i - 1] : 0;
        most = fmax(most, fabs(diagonal[i]) + fmax(fabs(e), fabs(before)));
        work[2 * i] = diagonal[i] * diagonal[i];
        work[2 * i + 1] = e * e;
    }
    // The bound is Gershgorin's.
    const struct bisection p = {work, values, 2 * most, n};
    team_for(team, (n + ACROSS - 1) / ACROSS, 1, bisect_values, &p);
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return sum;
}

// *sum = the sum of the singular values of A B^T. -1 with an error.
static int sum_of_product(struct device *host, const struct matrix_f64 *A,
                          const struct matrix_f64 *B, double *sum)
{
    const size_t m = A->rows, n = B->rows;
    struct reduction r = {m,
                          n,
                          0,
                          mem_new(m, n * sizeof *r.C),
                          mem_new(m, WIDTH * sizeof *r.L),
                          mem_new(n, WIDTH * sizeof *r.R),
                          host->team};
    double *work = mem_new(2 * m + 5 * n, sizeof *work);
    int rc = r.C && r.L && r.R && work ? 0 : -1;
    *sum = 0;
    if (rc == 0 && n) {
        double *diagonal = work, *above = diagonal + n, *rest = above + n;
        op_product_f64(host, r.C, A->at, B->at, m, A->columns, n);
        reduce_to_bidiagonal(host, &r, diagonal, above, rest);
        *sum = sum_singular_values(diagonal, above, rest, n, host->team);
    }
    free(r.C);
    free(r.L);
    free(r.R);
    free(work);
    return rc;
}

int frechet_distance(struct device *host, size_t D, const double *mean1, const double *covariance1,
                     const double *mean2, const double *covariance2, double *distance)
{
    struct matrix_f64 A = {0}, B = {0};
    double total = 0, root = 0;
    for (size_t i = 0; i < D; i++) {
        const double difference = mean1[i] - mean2[i];
        total += difference * difference + covariance1[i * D + i] + covariance2[i * D + i];
    }
    for (size_t i = 0; i < D * D && isfinite(total); i++)
        total += 0 * (covariance1[i] + covariance2[i]);
    if (!isfinite(total))
        return error_set(STATUS_DATA, "a mean or covariance holds numbers that are not finite");
    int rc = factor_covariance(host, &A, D, covariance1);
    if (rc == 0)
        rc = factor_covariance(host, &B, D, covariance2);
    if (rc == 0)
        rc = A.rows >= B.rows ? sum_of_product(host, &A, &B, &root)
                              : sum_of_product(host, &B, &A, &root);
    *distance = total - 2 * root;
    free(A.at);
    free(B.at);
    return rc;
}
