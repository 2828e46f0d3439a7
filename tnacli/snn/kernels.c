/* Batch norm, leaky integrate-and-fire neurons and average pooling of one layer, forward and backward, each in one sweep.
 *
 * Arrays are in the order time, row, channel: a row is one place of one sample, (n * H + h) * W + w, or one sample for fully
 * connected layers (H = W = 1). That is PyTorch's channels-last order, so the inner loops run over neighbouring channels.
 * A neuron's history for the backward pass is a code of two bits a timestep (layer.h).
 *
 * Activations and their gradients are fp32, or bf16 (`half`), widened as they are read: all arithmetic is in fp32 and higher, and
 * what is stored is rounded once. Averaged spikes are exact in either.
 *
 * Results do not depend on how rows are dealt out to threads, but for sums over rows, which are added up thread by thread in
 * a fixed order. Compile without contraction of a * b + c: the arithmetic is that of the PyTorch path, step by step.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "vectors.h"

#define BLOCK 64 /* rows summed in single precision before they are added to a double */

static void part(int64_t count, int64_t index, int64_t parts, int64_t *from, int64_t *to) {
    *from = count * index / parts;
    *to = count * (index + 1) / parts;
}

/* The inner loops go over all timesteps of a vector of neighbouring channels of a row, the `n` from `c0` on, whose state stays in
 * registers. */

INLINE mask load_codes(int64_t n, const uint8_t *from) {
    bytes some = {0};
    memcpy(&some, from, (size_t)n);
    return of_bytes(some);
}

INLINE void save_codes(int64_t n, mask codes, uint8_t *to) {
    const bytes some = to_bytes(codes);
    memcpy(to, &some, (size_t)n);
}

/* What `lif_forward` is given beside a layer. */
typedef struct {
    const void *x;
    const float *scale, *shift;
    void *out;
    uint8_t *codes;
} Call;

/* The spikes of the pool x pool rows that begin with `row`, averaged, to `place` of `out_rows`, and their codes. The rows' states
 * are in v and bits [pool * pool]. */
INLINE void neurons(const Layer *layer, int64_t half, int64_t n, const Call *call, int64_t c0, int64_t row, int64_t place,
                    int64_t out_rows, const int64_t pool, vec *v, mask *bits) {
    const int64_t C = layer->C, T = layer->T, rows = layer->N * layer->H * layer->W;
    const vec scale = load(0, n, call->scale, c0), shift = load(0, n, call->shift, c0);
    const vec none = {0}, threshold = none + layer->threshold, window = none + layer->window;
    const vec weight = none + 1.0f / (float)(pool * pool);
    const mask magnitude = (mask){0} + 0x7fffffff;
    const mask silent = {0};
    mask bit = silent + SPIKED;
    for (int64_t i = 0; i < pool * pool; i++) v[i] = none, bits[i] = silent;
    for (int64_t t = 0; t < T; t++) {
        const float decay = t ? layer->decay : 0.0f;
        vec sum = none;
        for (int64_t i = 0; i < pool * pool; i++) {
            const int64_t here = row + i / pool * layer->W + i % pool;
            const vec current = load(half, n, call->x, ((layer->repeated ? 0 : t) * rows + here) * C + c0) * scale + shift;
            const vec u = decay * v[i] + current; /* lif_step of ../native/lif.h */
            const lanes spiked = at_least_in(u, threshold);
            sum += only(spiked, weight);
            v[i] = except(spiked, u);
            if (!call->codes) continue;
            const lanes inside = at_least_in(window, (vec)((mask)(u - threshold) & magnitude));
            bits[i] = with(with(bits[i], spiked, bit), inside, bit << 1);
            if (t % 4 < 3 && t + 1 < T) continue;
            save_codes(n, bits[i], call->codes + (t / 4 * rows + here) * C + c0);
            bits[i] = silent;
        }
        save(half, n, sum, call->out, (t * out_rows + place) * C + c0);
        bit <<= 2;
        if (t % 4 == 3) bit = silent + SPIKED;
    }
}

/* `neurons` in registers where they fit. */
INLINE void pooled_neurons(const Layer *layer, int64_t half, int64_t n, const Call *call, int64_t c0, int64_t row, int64_t place,
                           int64_t out_rows, vec *v) {
    if (layer->pool == 1) {
        vec one[1];
        mask its_bits[1];
        neurons(layer, half, n, call, c0, row, place, out_rows, 1, one, its_bits);
    } else if (layer->pool == 2) {
        vec four[4];
        mask their_bits[4];
        neurons(layer, half, n, call, c0, row, place, out_rows, 2, four, their_bits);
    } else neurons(layer, half, n, call, c0, row, place, out_rows, layer->pool, v, (mask *)(v + layer->pool * layer->pool));
}

/* What `lif_backward` is given beside a layer: all but its results, and where a row is. */
typedef struct {
    const void *grad_out, *x;
    const uint8_t *codes;
    const float *mean, *invstd, *scale, *a, *b;
} Given;

/* dL/dcurrent of a row, whose spikes went to `place`, or nowhere if that is negative, the last timestep first: to `grad`, or
 * added to the sums `s` and `p` of the channels if those are wanted. */
INLINE void neurons_back(const Layer *layer, int64_t half, int64_t n, const Given *given, int64_t c0, int64_t row, int64_t rows,
                         int64_t place, int64_t out_rows, void *grad, float *s, float *p) {
    const int64_t C = layer->C, repeated = layer->repeated;
    const float slope = layer->height / (float)(layer->pool * layer->pool);
    const int normed = given->mean != NULL;
    const vec none = {0}, mean = normed ? load(0, n, given->mean, c0) : none;
    const vec invstd = normed ? load(0, n, given->invstd, c0) : none;
    const vec a = normed && !s ? load(0, n, given->a, c0) : none, b = normed && !s ? load(0, n, given->b, c0) : none;
    const vec scale = normed && !s ? load(0, n, given->scale, c0) : none;
    vec later = none, all = none, sum = s ? load(0, n, s, c0) : none, product = s ? load(0, n, p, c0) : none;
    mask code = {0};
    for (int64_t t = layer->T - 1; t >= 0; t--) {
        if (place >= 0) {
            if (t % 4 == 3 || t == layer->T - 1) code = load_codes(n, given->codes + (t / 4 * rows + row) * C + c0);
            const vec outward = load(half, n, given->grad_out, (t * out_rows + place) * C + c0);
            const vec direct = only(with_bits(code, INSIDE << 2 * (t % 4)), outward * slope);
            later = direct + except(with_bits(code, SPIKED << 2 * (t % 4)), layer->decay * later);
            all = repeated ? later + all : later + none;
        }
        if (repeated && t) continue;
        const int64_t here = (t * rows + row) * C + c0;
        if (s) {
            const vec normal = (load(half, n, given->x, here) - mean) * invstd;
            sum += all;
            product += all * normal;
        } else if (normed) {
            const vec normal = (load(half, n, grad, here) - mean) * invstd;
            save(half, n, scale * (all - a - b * normal), grad, here);
        } else save(half, n, all, grad, here);
    }
    if (s) {
        save(0, n, sum, s, c0);
        save(0, n, product, p, c0);
    }
}

/* Add to sums s and q [C] rows of x: differences to the first of all, so that a large mean does not swallow the variance. */
INLINE void add_moments(int64_t half, int64_t n, const void *x, int64_t C, int64_t c0, int64_t row, int64_t end, float *s,
                        float *q) {
    const vec first = load(half, n, x, c0);
    vec sum = load(0, n, s, c0), square = load(0, n, q, c0);
    for (; row < end; row++) {
        const vec d = load(half, n, x, row * C + c0) - first;
        sum += d;
        square += d * d;
    }
    save(0, n, sum, s, c0);
    save(0, n, square, q, c0);
}

/* What batch norm needs of a channel, each [C], computed in fp64 and rounded once: it makes currents x * scale + shift; `mean` and
 * `var`, unbiased, are of the batch, for the running statistics; `invstd` is the backward pass's, with the mean. */
typedef struct {
    float *scale, *shift, *mean, *invstd, *var;
} Norm;

static void normalise(const Norm *norm, int64_t c, int64_t rows, double mean, double var, double weight, double bias, double eps) {
    const double invstd = 1.0 / sqrt(var + eps), scale = weight * invstd;
    norm->scale[c] = (float)scale;
    norm->shift[c] = (float)(bias - mean * scale);
    norm->mean[c] = (float)mean;
    norm->invstd[c] = (float)invstd;
    norm->var[c] = (float)var * (float)((double)rows / (double)(rows > 1 ? rows - 1 : 1));
}

/* `numbers` [5, C], in the order of `Norm`, of x [rows, C] and batch norm's weight and bias. Returns 0, or 1 if memory ran out. */
int batch_norm(const void *x, int64_t half, int64_t rows, int64_t C, const float *weight, const float *bias, double eps,
               float *numbers, int64_t threads) {
    const Norm norm = {numbers, numbers + C, numbers + 2 * C, numbers + 3 * C, numbers + 4 * C};
    double *partial = calloc((size_t)(threads * 2 * C), sizeof(double));
    float *block = malloc((size_t)(threads * 2 * C) * sizeof(float));
    const int64_t near = C < 256 ? 256 / C : 1; /* rows that a vector is summed over before the next vector is */
    if (!partial || !block) { free(partial); free(block); return 1; }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        double *sum = partial + index * 2 * C, *square = sum + C;
        float *s = block + index * 2 * C, *q = s + C;
        int64_t from, to;
        part(rows, index, threads, &from, &to);
        for (int64_t start = from; start < to; start += BLOCK) {
            const int64_t end = start + BLOCK < to ? start + BLOCK : to;
            memset(s, 0, (size_t)(2 * C) * sizeof(float));
            for (int64_t row = start; row < end; row += near)
                BY_VECTORS(C, half, add_moments(is_half, n, x, C, c0, row, row + near < end ? row + near : end, s, q))
            for (int64_t c = 0; c < C; c++) { sum[c] += s[c]; square[c] += q[c]; }
        }
    }
    for (int64_t c = 0; c < C; c++) {
        const vec first = load(half, 1, x, c);
        double sum = 0, square = 0;
        for (int64_t index = 0; index < threads; index++) {
            sum += partial[index * 2 * C + c];
            square += partial[index * 2 * C + C + c];
        }
        double shifted = sum / (double)rows;
        double spread = square / (double)rows - shifted * shifted;
        normalise(&norm, c, rows, shifted + (double)first[0], spread > 0 ? spread : 0, weight[c], bias[c], eps);
    }
    free(partial);
    free(block);
    return 0;
}

/* Spikes out [T, pooled rows, C] of currents x * scale + shift; codes [(T + 3) / 4, rows, C], or NULL if not wanted. */
int lif_forward(const Layer *layer, const void *x, const float *scale, const float *shift, void *out, uint8_t *codes,
                int64_t threads) {
    const int64_t C = layer->C, H = layer->H, W = layer->W, pool = layer->pool, half = layer->half;
    const int64_t outH = H / pool, outW = W / pool, out_rows = layer->N * outH * outW;
    const Call call = {x, scale, shift, out, codes};
    vec *states = malloc((size_t)(threads * 2 * pool * pool) * sizeof(vec));
    if (!states) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        vec *v = states + index * 2 * pool * pool;
        int64_t from, to;
        part(layer->N * outH, index, threads, &from, &to);
        for (int64_t line = from; line < to; line++) {
            int64_t row = (line / outH * H + line % outH * pool) * W;
            for (int64_t place = line * outW; place < (line + 1) * outW; place++, row += pool)
                BY_VECTORS(C, half, pooled_neurons(layer, is_half, n, &call, c0, row, place, out_rows, v))
        }
    }
    free(states);
    return 0;
}

/* Averaged spikes of one timestep and a vector of channels, from the codes of the `pool` x `pool` rows from `row` on. */
INLINE void recall(const Layer *layer, int64_t half, int64_t n, const uint8_t *codes, int64_t c0, int64_t t, int64_t row, int64_t rows,
                   void *out, int64_t at) {
    const float weight = 1.0f / (float)(layer->pool * layer->pool);
    vec sum = {0};
    for (int64_t i = 0; i < layer->pool; i++)
        for (int64_t j = 0; j < layer->pool; j++) {
            const mask code = load_codes(n, codes + (t / 4 * rows + row + i * layer->W + j) * layer->C + c0);
            sum += only(with_bits(code, SPIKED << 2 * (t % 4)), (vec){0} + weight);
        }
    save(half, n, sum, out, at + c0);
}

/* The spikes [T, pooled rows, C] that `lif_forward` gave, from the codes that it kept. */
void recall_spikes(const Layer *layer, const uint8_t *codes, void *out, int64_t threads) {
    const int64_t C = layer->C, W = layer->W, pool = layer->pool, half = layer->half, outH = layer->H / pool, outW = W / pool;
    const int64_t rows = layer->N * layer->H * W, lines = layer->N * outH;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t line = 0; line < layer->T * lines; line++) {
        const int64_t t = line / lines, first = (line % lines / outH * layer->H + line % outH * pool) * W;
        for (int64_t w = 0; w < outW; w++)
            BY_VECTORS(C, half, recall(layer, is_half, n, codes, c0, t, first + w * pool, rows, out, (line * outW + w) * C))
    }
}

/* dL/dcurrent [T or 1, rows, C] from dL/dspikes [T, pooled rows, C], in two ways.
 *
 * With `sums` [4, C], and `x`, the currents before batch norm: only the per-channel sums over all rows and timesteps are wanted, of
 * dL/dcurrent and of its product with (x - mean) * invstd, and both means. Else `grad` is filled. With `mean`, it holds x and is
 * overwritten by the gradient through batch norm, scale * (dL/dcurrent - a - b * (x - mean) * invstd): computing dL/dcurrent again costs
 * less than storing it in between, and takes no memory. */
int lif_backward(const Layer *layer, const void *grad_out, const uint8_t *codes, const void *x, const float *mean,
                 const float *invstd, const float *scale, const float *a, const float *b, void *grad, float *sums,
                 int64_t threads) {
    const int64_t C = layer->C, H = layer->H, W = layer->W, pool = layer->pool, half = layer->half;
    const int64_t outH = H / pool, outW = W / pool, rows = layer->N * H * W, out_rows = layer->N * outH * outW;
    const Given given = {grad_out, x, codes, mean, invstd, scale, a, b};
    double *partial = calloc((size_t)(threads * 2 * C), sizeof(double));
    float *scratch = malloc((size_t)(threads * 2 * C) * sizeof(float));
    if (!partial || !scratch) { free(partial); free(scratch); return 1; }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        double *own = partial + index * 2 * C, *products = own + C;
        float *all_s = scratch + index * 2 * C, *all_p = all_s + C;
        int64_t from, to;
        part(rows, index, threads, &from, &to);
        for (int64_t start = from; start < to; start += BLOCK) {
            int64_t end = start + BLOCK < to ? start + BLOCK : to;
            memset(all_s, 0, (size_t)(2 * C) * sizeof(float));
            for (int64_t row = start, line = start / W, w0 = start % W; row < end; row++, w0++) {
                if (w0 == W) line++, w0 = 0;
                const int64_t image = line / H, h = line % H / pool, w = w0 / pool;
                float *s = sums ? all_s : NULL, *p = all_p;
                const int dropped = h >= outH || w >= outW; /* by pooling: nothing depends on these neurons */
                const int64_t place = dropped ? -1 : (image * outH + h) * outW + w;
                if (dropped && sums) continue;
                BY_VECTORS(C, half, neurons_back(layer, is_half, n, &given, c0, row, rows, place, out_rows, grad, s, p))
            }
            for (int64_t c = 0; c < C; c++) { own[c] += all_s[c]; products[c] += all_p[c]; }
        }
    }
    const double count = (double)(rows * (layer->repeated ? 1 : layer->T));
    for (int64_t c = 0; sums && c < C; c++) {
        double sum = 0, product = 0;
        for (int64_t index = 0; index < threads; index++) {
            sum += partial[index * 2 * C + c];
            product += partial[index * 2 * C + C + c];
        }
        sums[c] = (float)sum;
        sums[C + c] = (float)product;
        sums[2 * C + c] = (float)(sum / count);
        sums[3 * C + c] = (float)(product / count);
    }
    free(partial);
    free(scratch);
    return 0;
}
