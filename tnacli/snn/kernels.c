/* Batch norm, leaky integrate-and-fire neurons and average pooling of one layer, forward and backward, each in one sweep.
 *
 * Arrays are in the order time, row, channel: a row is one place of one sample, (n * H + h) * W + w, or one sample for fully
 * connected layers (H = W = 1). That is PyTorch's channels-last order, so the inner loops run over neighbouring channels.
 * A neuron's history for the backward pass is two bits a timestep: bit 0, it spiked; bit 1, its potential was inside the
 * surrogate's window. Four timesteps share a byte: plane t / 4, bits 2 * (t % 4).
 *
 * Activations and their gradients are fp32, or bf16 (`half`), the upper half of an fp32 number; they are widened row by row, all
 * arithmetic is in fp32 and higher, and what is stored is rounded once. Averaged spikes are exact in either.
 *
 * Results do not depend on how rows are dealt out to threads, but for sums over rows, which are added up thread by thread in
 * a fixed order. Compile without contraction of a * b + c: the arithmetic is that of the PyTorch path, step by step.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../native/lif.h"
#include "half.h"

#define SPIKED 1
#define INSIDE 2
#define BLOCK 64 /* rows summed in single precision before they are added to a double */

typedef struct {
    int64_t T, N, H, W, C; /* timesteps, samples, height and width before pooling, channels */
    int64_t pool;          /* pooling over pool x pool; 1 for none */
    int64_t repeated;      /* the current is the same at every timestep: x has one step only */
    int64_t half;          /* activations and their gradients are bf16 */
    float decay, threshold, window, height;
} Layer;

static void part(int64_t count, int64_t index, int64_t parts, int64_t *from, int64_t *to) {
    *from = count * index / parts;
    *to = count * (index + 1) / parts;
}

/* Row `row` of x in fp32, in `wide` [C] if it has to be widened. */
static const float *row_of(int64_t half, const void *x, int64_t row, int64_t C, float *wide) {
    if (!half) return (const float *)x + row * C;
    widen(C, (const uint16_t *)x + row * C, (bits32 *)wide);
    return wide;
}

/* The inner loops, over the channels of one row. Functions of their own, so that `restrict` reaches the vectoriser. */

static void one_step(int64_t C, const float *restrict x, const float *restrict scale, const float *restrict shift,
                     float keep, float threshold, float weight, float *restrict v, float *restrict out) {
    for (int64_t c = 0; c < C; c++) {
        const float u = lif_step(keep, x[c] * scale[c] + shift[c], threshold, &v[c]);
        out[c] += u >= threshold ? weight : 0.0f;
    }
}

static void one_step_coded(int64_t C, const float *restrict x, const float *restrict scale, const float *restrict shift,
                           float keep, float threshold, float window, float weight, float *restrict v,
                           float *restrict out, int32_t *restrict bits, uint8_t *restrict code, int bit) {
    for (int64_t c = 0; c < C; c++) {
        const float u = lif_step(keep, x[c] * scale[c] + shift[c], threshold, &v[c]);
        const int32_t inside = fabsf(u - threshold) <= window ? INSIDE : 0;
        out[c] += u >= threshold ? weight : 0.0f;
        bits[c] = u >= threshold ? inside | SPIKED : inside;
    }
    for (int64_t c = 0; c < C; c++) code[c] = (uint8_t)(code[c] | bits[c] << bit);
}

static void one_step_back(int64_t C, const float *restrict grad_out, const uint8_t *restrict code, int bit, float slope,
                          float decay, float *restrict later) {
    const int32_t spiked = SPIKED << bit, inside = INSIDE << bit;
    for (int64_t c = 0; c < C; c++) {
        const int32_t bits = code[c];
        const float direct = bits & inside ? grad_out[c] * slope : 0.0f;
        const float through_time = bits & spiked ? 0.0f : decay * later[c];
        later[c] = direct + through_time;
    }
}

static void add_to(int64_t C, const float *restrict from, float *restrict to) {
    for (int64_t c = 0; c < C; c++) to[c] += from[c];
}

static void add_sums(int64_t C, const float *restrict grad, const float *restrict x, const float *restrict mean,
                     const float *restrict invstd, float *restrict sum, float *restrict product) {
    for (int64_t c = 0; c < C; c++) {
        sum[c] += grad[c];
        product[c] += grad[c] * ((x[c] - mean[c]) * invstd[c]);
    }
}

/* x becomes the gradient through batch norm, given the one after it. */
static void norm_back(int64_t C, const float *restrict grad, const float *restrict mean, const float *restrict invstd,
                      const float *restrict scale, const float *restrict a, const float *restrict b, float *restrict x) {
    for (int64_t c = 0; c < C; c++) x[c] = scale[c] * (grad[c] - a[c] - b[c] * ((x[c] - mean[c]) * invstd[c]));
}

/* Mean and biased variance of each channel of x [rows, C]. Returns 0, or 1 if memory ran out. */
int channel_moments(const void *x, int64_t half, int64_t rows, int64_t C, double *mean, double *var, int64_t threads) {
    double *partial = calloc((size_t)(threads * 2 * C), sizeof(double));
    float *block = malloc((size_t)((threads * 3 + 1) * C) * sizeof(float));
    if (!partial || !block) { free(partial); free(block); return 1; }
    const float *restrict first = row_of(half, x, 0, C, block + threads * 3 * C);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        double *sum = partial + index * 2 * C, *square = sum + C;
        float *s = block + index * 3 * C, *q = s + C, *wide = q + C;
        int64_t from, to;
        part(rows, index, threads, &from, &to);
        for (int64_t start = from; start < to; start += BLOCK) {
            int64_t end = start + BLOCK < to ? start + BLOCK : to;
            memset(s, 0, (size_t)(2 * C) * sizeof(float));
            for (int64_t row = start; row < end; row++) {
                const float *restrict at = row_of(half, x, row, C, wide);
                /* Differences to the first row, so that a large mean does not swallow the variance. */
                for (int64_t c = 0; c < C; c++) {
                    float d = at[c] - first[c];
                    s[c] += d;
                    q[c] += d * d;
                }
            }
            for (int64_t c = 0; c < C; c++) { sum[c] += s[c]; square[c] += q[c]; }
        }
    }
    for (int64_t c = 0; c < C; c++) {
        double sum = 0, square = 0;
        for (int64_t index = 0; index < threads; index++) {
            sum += partial[index * 2 * C + c];
            square += partial[index * 2 * C + C + c];
        }
        double shifted = sum / (double)rows;
        double spread = square / (double)rows - shifted * shifted;
        mean[c] = shifted + (double)first[c];
        var[c] = spread > 0 ? spread : 0;
    }
    free(partial);
    free(block);
    return 0;
}

/* Spikes out [T, pooled rows, C] of currents x * scale + shift; codes [(T + 3) / 4, rows, C], or NULL if not wanted. */
int lif_forward(const Layer *layer, const void *x, const float *scale, const float *shift, void *out, uint8_t *codes,
                int64_t threads) {
    const int64_t T = layer->T, C = layer->C, H = layer->H, W = layer->W, pool = layer->pool;
    const int64_t outH = H / pool, outW = W / pool, rows = layer->N * H * W, out_rows = layer->N * outH * outW;
    const float decay = layer->decay, threshold = layer->threshold, window = layer->window;
    const float weight = 1.0f / (float)(pool * pool);
    const int64_t scratch = (3 + T) * C; /* of a thread */
    float *potentials = malloc((size_t)(threads * scratch) * sizeof(float));
    if (!potentials) return 1;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        float *v = potentials + index * scratch, *wide = v + 2 * C, *sums = v + 3 * C;
        int32_t *bits = (int32_t *)(v + C);
        int64_t from, to;
        part(out_rows, index, threads, &from, &to);
        for (int64_t place = from; place < to; place++) {
            const int64_t n = place / (outH * outW), h = place / outW % outH, w = place % outW;
            for (int64_t inner = 0; inner < pool * pool; inner++) {
                const int64_t row = (n * H + h * pool + inner / pool) * W + w * pool + inner % pool;
                for (int64_t t = 0; t < T; t++) {
                    const float *at = row_of(layer->half, x, (layer->repeated ? 0 : t) * rows + row, C, wide);
                    float *o = layer->half ? sums + t * C : (float *)out + (t * out_rows + place) * C;
                    const float keep = t ? decay : 0.0f;
                    if (!t) memset(v, 0, (size_t)C * sizeof(float));
                    if (!inner) memset(o, 0, (size_t)C * sizeof(float));
                    if (codes) {
                        uint8_t *code = codes + (t / 4 * rows + row) * C;
                        const int bit = 2 * (int)(t % 4);
                        if (!bit) memset(code, 0, (size_t)C);
                        one_step_coded(C, at, scale, shift, keep, threshold, window, weight, v, o, bits, code, bit);
                    } else {
                        one_step(C, at, scale, shift, keep, threshold, weight, v, o);
                    }
                }
            }
            for (int64_t t = 0; layer->half && t < T; t++)
                narrow(C, (bits32 *)(sums + t * C), (uint16_t *)out + (t * out_rows + place) * C);
        }
    }
    free(potentials);
    return 0;
}

/* dL/dcurrent [T or 1, rows, C] from dL/dspikes [T, pooled rows, C], in two ways.
 *
 * With `sum` and `product`, and `x`, the currents before batch norm: only the per-channel sums over all rows and timesteps
 * are wanted, of dL/dcurrent and of its product with (x - mean) * invstd. Else `grad` is filled. With `mean`, it holds x and
 * is overwritten by the gradient through batch norm, scale * (dL/dcurrent - a - b * (x - mean) * invstd): computing
 * dL/dcurrent again costs less than storing it in between, and takes no memory. */
int lif_backward(const Layer *layer, const void *grad_out, const uint8_t *codes, const void *x, const float *mean,
                 const float *invstd, const float *scale, const float *a, const float *b, void *grad, double *sum,
                 double *product, int64_t threads) {
    const int64_t T = layer->T, C = layer->C, H = layer->H, W = layer->W, pool = layer->pool;
    const int64_t outH = H / pool, outW = W / pool, rows = layer->N * H * W, out_rows = layer->N * outH * outW;
    const int64_t steps = layer->repeated ? 1 : T;
    const float decay = layer->decay, slope = layer->height / (float)(pool * pool);
    double *partial = calloc((size_t)(threads * 2 * C), sizeof(double));
    float *scratch = malloc((size_t)(threads * 6 * C) * sizeof(float));
    if (!partial || !scratch) { free(partial); free(scratch); return 1; }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        double *sums = partial + index * 2 * C, *products = sums + C;
        float *later = scratch + index * 6 * C, *all = later + C, *s = all + C, *p = s + C, *wide = p + C, *back = wide + C;
        int64_t from, to;
        part(rows, index, threads, &from, &to);
        for (int64_t start = from; start < to; start += BLOCK) {
            int64_t end = start + BLOCK < to ? start + BLOCK : to;
            memset(s, 0, (size_t)(2 * C) * sizeof(float));
            for (int64_t row = start; row < end; row++) {
                const int64_t n = row / (H * W), h = row / W % H / pool, w = row % W / pool;
                const int dropped = h >= outH || w >= outW; /* by pooling: nothing depends on these neurons */
                if (dropped && sum) continue;
                const int64_t place = (n * outH + h) * outW + w;
                memset(later, 0, (size_t)C * sizeof(float));
                if (layer->repeated) memset(all, 0, (size_t)C * sizeof(float));
                for (int64_t t = T - 1; t >= 0; t--) {
                    if (!dropped)
                        one_step_back(C, row_of(layer->half, grad_out, t * out_rows + place, C, wide),
                                      codes + (t / 4 * rows + row) * C, 2 * (int)(t % 4), slope, decay, later);
                    if (layer->repeated) add_to(C, later, all);
                    if (layer->repeated && t) continue;
                    const float *whole = layer->repeated ? all : later;
                    const int64_t at = (steps > 1 ? t : 0) * rows + row;
                    if (sum) {
                        add_sums(C, whole, row_of(layer->half, x, at, C, wide), mean, invstd, s, p);
                        continue;
                    }
                    float *g = layer->half ? back : (float *)grad + at * C;
                    if (!mean) memcpy(g, whole, (size_t)C * sizeof(float));
                    else {
                        if (layer->half) widen(C, (const uint16_t *)grad + at * C, (bits32 *)g);
                        norm_back(C, whole, mean, invstd, scale, a, b, g);
                    }
                    if (layer->half) narrow(C, (bits32 *)g, (uint16_t *)grad + at * C);
                }
            }
            for (int64_t c = 0; c < C; c++) { sums[c] += s[c]; products[c] += p[c]; }
        }
    }
    for (int64_t c = 0; sum && c < C; c++) {
        sum[c] = product[c] = 0;
        for (int64_t index = 0; index < threads; index++) {
            sum[c] += partial[index * 2 * C + c];
            product[c] += partial[index * 2 * C + C + c];
        }
    }
    free(partial);
    free(scratch);
    return 0;
}
