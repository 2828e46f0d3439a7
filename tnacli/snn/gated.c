/* The gradient of a 3x3 convolution's inputs, where the neurons below ask for it.
 *
 * Inputs are the spikes, pooled or not, of a layer of neurons. Outside of the surrogate's window the gradient of a spike is
 * multiplied by zero, so only inputs of which a neuron was inside are worked on: about a quarter, or after 2x2 pooling half. All
 * others get zero. Each sum is fp32, over outputs first, in an order that nothing else changes.
 *
 * Layouts are those of sparse.c; codes are in layer.h. Compile with contraction of a * b + c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "convolution.h"
#include "layer.h"

#define NEAR 160 /* places, borders included, worked on together: OUT gradients of each stay in the nearest cache */
#define ONES 0x0101010101010101u

/* The codes of the first channel of the neurons that make up an input, or of the first of them, and which of a code's bits says
 * that it was inside. */
typedef struct {
    const uint8_t *codes;
    int inside;
} Place;

/* The place at image t * N + n, row h and column 0. */
static Place place_of(const Layer *layer, const uint8_t *codes, int64_t image, int64_t h) {
    const int64_t t = image / layer->N, n = image % layer->N, size = layer->H * layer->W;
    return (Place){codes + ((t / 4 * layer->N + n) * size + h * layer->pool * layer->W) * layer->C, (int)(2 * (t % 4)) + 1};
}

/* One bit is set in byte i, the lowest first, if the input of channel c + i of `count` is wanted. */
INLINE uint64_t wanted(const Layer *layer, const int64_t pool, Place place, int64_t c, const int64_t count) {
    uint64_t any = 0;
    for (int64_t row = 0; row < pool; row++)
        for (int64_t column = 0; column < pool; column++) {
            uint64_t one = 0;
            memcpy(&one, place.codes + (row * layer->W + column) * layer->C + c, (size_t)count);
            any |= one;
        }
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    any = __builtin_bswap64(any);
#endif
    return any >> place.inside & ONES;
}

/* How many inputs of every `step`th image are wanted. */
int64_t count_wanted(const Shape *shape, const Layer *layer, const uint8_t *codes, int64_t step) {
    int64_t total = 0;
    for (int64_t row = 0; row < blocks(shape->N, step) * shape->H; row++) {
        Place place = place_of(layer, codes, row / shape->H * step, row % shape->H);
        for (int64_t w = 0; w < shape->W; w++, place.codes += layer->pool * layer->C)
            for (int64_t c = 0; c < shape->C; c += EIGHT)
                total += __builtin_popcountll(wanted(layer, layer->pool, place, c, at_most(shape->C - c, EIGHT)));
    }
    return total;
}

/* Add the wanted inputs of `count` places, the first of which is `first`, to the lists of their channels. */
INLINE void list_eight(const Layer *layer, const int64_t pool, const Place *places, int64_t first, const int64_t count,
                       int64_t room, uint16_t *where, int32_t *counts) {
    for (int64_t c0 = 0; c0 < layer->C; c0 += EIGHT) {
        const int64_t channels = at_most(layer->C - c0, EIGHT);
        uint64_t bits = 0;
        for (int64_t i = 0; i < count; i++)
            bits |= (channels == EIGHT ? wanted(layer, pool, places[i], c0, EIGHT) : wanted(layer, pool, places[i], c0, channels))
                    << i;
        for (int64_t c = c0; c < c0 + channels; c++, bits >>= 8)
            counts[c] += add_places(where + c * room + counts[c], first, (uint32_t)bits);
    }
}

/* List the wanted inputs of a group by channel, as places from row `top` of the first image on: channel c's are from c * room on,
 * counts[c] of them. `near` has for each place the first of the nine outputs around it, borders included. */
static void list_wanted(const Shape *shape, const Layer *layer, const uint8_t *codes, Group group, int64_t room, uint16_t *where,
                        int32_t *near, int32_t *counts) {
    const int64_t W = shape->W, total = group.images * group.rows * W;
    Place places[EIGHT];
    int64_t listed = 0;
    memset(counts, 0, (size_t)shape->C * sizeof(int32_t));
    for (int64_t row = 0; row < group.images * group.rows; row++) {
        const int64_t image = row / group.rows, h = row % group.rows;
        Place place = place_of(layer, codes, group.n + image, group.top + h);
        for (int64_t w = 0; w < W; w++, listed++, place.codes += layer->pool * layer->C) {
            places[listed % EIGHT] = place;
            near[listed] = (int32_t)((image * (group.rows + 2) + h) * (W + 2) + w);
            const int64_t first = listed / EIGHT * EIGHT, count = listed + 1 - first;
            if (count < EIGHT && listed + 1 < total) continue;
            if (count < EIGHT || layer->pool > 2) list_eight(layer, layer->pool, places, first, count, room, where, counts);
            else if (layer->pool == 1) list_eight(layer, 1, places, first, EIGHT, room, where, counts);
            else list_eight(layer, 2, places, first, EIGHT, room, where, counts);
        }
    }
}

/* near [places, OUT] = outputs from k on of a group's gradients, zero beyond the image, whose left and right are zero already, and
 * beyond the last output. */
static void copy_near(const Shape *shape, const float *outward, Group group, int64_t k, float *near) {
    const int64_t H = shape->H, W = shape->W, K = shape->K, count = at_most(K - k, OUT);
    for (int64_t line = 0; line < group.images * (group.rows + 2); line++, near += (W + 2) * OUT) {
        const int64_t h = group.top + line % (group.rows + 2) - 1;
        if (h < 0 || h >= H || count < OUT) memset(near, 0, (size_t)((W + 2) * OUT) * sizeof(float));
        if (h < 0 || h >= H) continue;
        const float *from = outward + ((group.n + line / (group.rows + 2)) * H + h) * W * K + k;
        for (int64_t w = 0; w < W; w++, from += K) {
            if (count == OUT)
                for (int v = 0; v < V; v++) ((vec *)(near + (w + 1) * OUT))[v] = ((const vec *)from)[v];
            else memcpy(near + (w + 1) * OUT, from, (size_t)count * sizeof(float));
        }
    }
}

INLINE float total(vec x) {
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)x);
#else
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += x[lane];
    return sum;
#endif
}

/* The products of the nine times OUT outputs from near[first[where[i]]] on with weights [9, OUT], lane by lane: added to sums[i] unless they are the
 * first, and kept there unless they are the last, whose total goes to gradient[where[i] * C]. */
INLINE void add_products(const uint16_t *where, const int32_t *first, int64_t count, const float *near, int64_t P,
                         const float *weights, vec *sums, float *gradient, int64_t C, const int begins, const int ends) {
    vec w[9][V];
    for (int tap = 0; tap < 9; tap++)
        for (int v = 0; v < V; v++) w[tap][v] = *(const vec *)(weights + tap * OUT + v * LANES);
    for (int64_t i = 0; i < count; i++) {
        const float *a = near + (uint64_t)first[where[i]] * OUT;
        vec even = begins ? (vec){0} : sums[i], odd = {0};
        for (int r = 0; r < 3; r++, a += P * OUT)
            for (int q = 0; q < 3; q++)
                for (int v = 0; v < V; v++) {
                    const vec here = *(const vec *)(a + q * OUT + v * LANES);
                    if ((r + q + v) % 2) odd += here * w[3 * r + q][v];
                    else even += here * w[3 * r + q][v];
                }
        if (ends) gradient[where[i] * C] = total(even + odd);
        else sums[i] = even + odd;
    }
}

/* gradient [N, H, W, C] = dL/dx, or 0 where it is not wanted, from `outward`, dL/dout. Returns 0, or 1 if memory ran out. */
int gated_input_gradient(const Shape *shape, const Layer *layer, const uint8_t *codes, const float *outward, const float *weight,
                         const Strides *strides, float *gradient, int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C, outs = blocks(shape->K, OUT), ins = blocks(C, IN);
    const int64_t rows = at_most(at_least(NEAR / (W + 2) - 2, 1), H);
    const int64_t images = rows < H ? 1 : at_most(at_least(NEAR / ((W + 2) * (H + 2)), 1), N);
    const int64_t groups = images ? blocks(N, images) * blocks(H, rows) : 0, places = images * rows * W;
    const int64_t padded = images * (rows + 2) * (W + 2), listed = places + EIGHT;
    uint16_t *wheres = room(threads * C * listed * (int64_t)sizeof(uint16_t));
    int32_t *all_first = room(threads * places * (int64_t)sizeof(int32_t));
    int32_t *all_counts = room(threads * C * (int64_t)sizeof(int32_t));
    float *around = room(threads * padded * OUT * (int64_t)sizeof(float));
    vec *all_sums = room(threads * C * places * (int64_t)sizeof(vec));
    float *weights = arranged(shape, weight, strides, 1, threads);
    const int failed = !wheres || !all_first || !all_counts || !around || !all_sums || !weights;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        uint16_t *where = wheres + index * C * listed;
        int32_t *first = all_first + index * places, *counts = all_counts + index * C;
        float *near = around + index * padded * OUT;
        vec *sums = all_sums + index * C * places;
        memset(near, 0, (size_t)(padded * OUT) * sizeof(float));
        for (int64_t one = groups * index / threads; one < groups * (index + 1) / threads; one++) {
            const Group group = group_of(shape, images, rows, one);
            list_wanted(shape, layer, codes, group, listed, where, first, counts);
            float *to = gradient + (group.n * H + group.top) * W * C;
            for (int64_t image = 0; image < group.images; image++)
                memset(to + image * H * W * C, 0, (size_t)(group.rows * W * C) * sizeof(float));
            for (int64_t block = 0; block < outs; block++) {
                copy_near(shape, outward, group, block * OUT, near);
                for (int64_t c = 0; c < C; c++) {
                    const float *own = weights + (block * ins * IN + c) * 9 * OUT;
                    const uint16_t *wh = where + c * listed;
                    vec *s = sums + c * places;
                    if (outs == 1) add_products(wh, first, counts[c], near, W + 2, own, s, to + c, C, 1, 1);
                    else if (block == 0) add_products(wh, first, counts[c], near, W + 2, own, s, to + c, C, 1, 0);
                    else if (block < outs - 1) add_products(wh, first, counts[c], near, W + 2, own, s, to + c, C, 0, 0);
                    else add_products(wh, first, counts[c], near, W + 2, own, s, to + c, C, 0, 1);
                }
            }
        }
    }
    free(wheres); free(all_first); free(all_counts); free(around); free(all_sums); free(weights);
    return failed;
}
