// The schedule's tables are the published ones. SPDX-License-Identifier: MIT
#include "lib/model/diffusion.h"
#include "tests/reference.h"

static void compare(const struct weights *file, const char *respacing, const char *name,
                    const double *table, size_t n)
{
    const struct weight *t = weights_find(file, name);
    double worst = 0;
    if (!t || t->dtype != DTYPE_F64 || weight_count(t) != n) {
        ok(false, "%s of steps '%s' has %zu entries", name, respacing, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double expected;
        memcpy(&expected, t->data + i * sizeof expected, sizeof expected);
        double error = fabs(table[i] - expected) / fmax(1, fabs(expected));
        worst = error > worst || isnan(error) ? error : worst;
    }
    if (!ok(worst <= 1e-12, "%s of steps '%s' is that of the reference", name, respacing))
        diag("worst error %g", worst);
}

static void compare_all(const char *name, const char *respacing)
{
    struct diffusion d;
    struct weights file = reference_open(name);
    if (diffusion_init(&d, respacing) < 0)
        bail_out();
    size_t n;
    int64_t *map = reference_ints(&file, "timestep_map", &n);
    ok(n == d.steps && memcmp(map, d.timestep_map, n * sizeof *map) == 0,
       "steps '%s' keep those of the reference", respacing);
    compare(&file, respacing, "betas", d.betas, d.steps);
    compare(&file, respacing, "alphas_cumprod", d.alphas_cumprod, d.steps);
    compare(&file, respacing, "alphas_cumprod_prev", d.alphas_cumprod_prev, d.steps);
    compare(&file, respacing, "sqrt_recip_alphas_cumprod", d.sqrt_recip_alphas_cumprod, d.steps);
    compare(&file, respacing, "sqrt_recipm1_alphas_cumprod", d.sqrt_recipm1_alphas_cumprod,
            d.steps);
    compare(&file, respacing, "posterior_variance", d.posterior_variance, d.steps);
    compare(&file, respacing, "posterior_log_variance_clipped", d.posterior_log_variance_clipped,
            d.steps);
    compare(&file, respacing, "posterior_mean_coef1", d.posterior_mean_coef1, d.steps);
    compare(&file, respacing, "posterior_mean_coef2", d.posterior_mean_coef2, d.steps);
    free(map);
    diffusion_free(&d);
    weights_close(&file);
}

static void refuse(const char *respacing)
{
    struct diffusion d;
    ok(diffusion_init(&d, respacing) < 0 && error_status() == STATUS_USAGE,
       "steps '%s' are refused: %s", respacing, error_message());
}

int main(void)
{
    compare_all("diffusion-1000", "");
    compare_all("diffusion-1000", "1000");
    compare_all("diffusion-250", "250");
    compare_all("diffusion-50", "50");
    compare_all("diffusion-ddim50", "ddim50");
    compare_all("diffusion-10_15_20", "10,15,20");
    refuse("0");
    refuse("1001");
    refuse("ddim");
    refuse("ddim999");
    refuse("ddim50x");
    refuse("10,");
    refuse("10,,20");
    refuse("-5");
    refuse("500,500,500");
    refuse(" 5");
    struct sampler_stages stages;
    ok(diffusion_stages(&stages, "1", true, 0) == 0 && stages.n == 1 &&
           isfinite(stages.all[0].step.state[0][0]),
       "a diffusion of one step is possible");
    stages_free(&stages);
    return tap_done();
}
