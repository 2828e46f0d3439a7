/* The gradient of a 3x3 convolution's inputs, where the neurons below ask for it.
 *
 * Inputs are the spikes, pooled or not, of a layer of neurons. Outside of the surrogate's window the gradient of a spike is
 * multiplied by zero, so only inputs of which a neuron was inside are worked on: about a quarter, or after 2x2 pooling half. All
 * others get zero. Each sum is fp32, over outputs first, in an order that nothing else changes. Gradients and weights are fp32, or
 * bf16 where HALF is defined, then in pairs of neighbouring outputs where the processor multiplies those.
 *
 * Layouts are those of sparse.c; codes are in layer.h. Compile with contraction of a * b + c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "convolution.h"
#include "layer.h"

#define NEAR 320 /* vectors of gradients, those of borders included, worked on together: they stay in the nearest cache */
#define PER (LANES * PAIR) /* outputs of a vector */
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

#if PAIR == 2
INLINE vec add_products(vec sum, vec a, vec b) { return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b); }
#else
INLINE vec add_products(vec sum, vec a, vec b) { return sum + a * b; }
#endif

/* A vector of `n` of PER neighbouring outputs, zero in place of the others: fp32, or bf16 in pairs. */
INLINE vec outputs(int64_t n, const number *from) {
#if PAIR == 2
    vec all = {0};
    memcpy(&all, from, (size_t)n * sizeof(number));
    return all;
#else
    return load(sizeof(number) == 2, n, from, 0);
#endif
}

/* Weights as [block of `vectors` vectors of outputs][C][9][vectors]; number 3 * r + q of the nine is for the output r - 1 rows and
 * q - 1 columns from the input. */
static vec *arranged_by_outputs(const Shape *shape, const number *weight, const Strides *strides, int64_t vectors,
                                int64_t threads) {
    const int64_t C = shape->C, outs = blocks(shape->K, PER * vectors);
    vec *to = room(outs * C * 9 * vectors * (int64_t)sizeof(vec));
    if (!to) return NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t place = 0; place < outs * C * 9; place++) {
        const int64_t k0 = place / (9 * C) * PER * vectors, c = place / 9 % C, tap = 8 - place % 9;
        const number *from = weight + c * strides->c + tap / 3 * strides->row + tap % 3 * strides->column;
        for (int64_t v = 0; v < vectors; v++) {
            number some[PER] = {0};
            for (int64_t k = k0 + v * PER; k < at_most(shape->K, k0 + (v + 1) * PER); k++)
                some[k - k0 - v * PER] = from[k * strides->k];
            to[place * vectors + v] = outputs(PER, some);
        }
    }
    return to;
}

/* near [places, vectors] = outputs from k on of a group's gradients, zero beyond the image, whose left and right are zero already,
 * and beyond the last output. */
INLINE void copy_near(const Shape *shape, const number *outward, Group group, int64_t k, vec *near, const int vectors) {
    const int64_t H = shape->H, W = shape->W, K = shape->K;
    for (int64_t line = 0; line < group.images * (group.rows + 2); line++, near += (W + 2) * vectors) {
        const int64_t h = group.top + line % (group.rows + 2) - 1;
        if (h < 0 || h >= H) {
            memset(near, 0, (size_t)((W + 2) * vectors) * sizeof(vec));
            continue;
        }
        const number *from = outward + ((group.n + line / (group.rows + 2)) * H + h) * W * K + k;
        for (int64_t w = 0; w < W; w++, from += K)
            for (int v = 0; v < vectors; v++) {
                const int64_t n = K - k - v * PER;
                near[(w + 1) * vectors + v] = n >= PER ? outputs(PER, from + v * PER) : outputs(at_least(n, 0), from + v * PER);
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

/* The products of the nine times `vectors` gradients from near[first[where[i]]] on with weights [9, vectors], lane by lane: added to
 * sums[i] unless the outputs are the first (`begins`), and kept there unless they are the last, whose total goes to
 * gradient[where[i] * C]. */
INLINE void sum_up(const uint16_t *where, const int32_t *first, int64_t count, const vec *near, int64_t P, const vec *weights,
                   vec *sums, number *gradient, int64_t C, const int begins, const int ends, const int vectors) {
    vec w[9][V];
    for (int tap = 0; tap < 9; tap++)
        for (int v = 0; v < vectors; v++) w[tap][v] = weights[tap * vectors + v];
    for (int64_t i = 0; i < count; i++) {
        const vec *a = near + (uint64_t)first[where[i]] * (uint64_t)vectors;
        vec even = begins ? (vec){0} : sums[i], odd = {0};
        for (int r = 0; r < 3; r++, a += P * vectors)
            for (int q = 0; q < 3; q++)
                for (int v = 0; v < vectors; v++) {
                    const vec here = a[q * vectors + v];
                    if ((r + q + v) % 2) odd = add_products(odd, here, w[3 * r + q][v]);
                    else even = add_products(even, here, w[3 * r + q][v]);
                }
        if (ends) put(total(even + odd), gradient + where[i] * C);
        else sums[i] = even + odd;
    }
}

/* What a thread works on a group with. */
typedef struct {
    int64_t listed; /* room of a channel's list */
    uint16_t *where;
    int32_t *first, *counts;
    vec *near, *sums;
} Desk;

/* `sum_up` of channel c of C, whose place in registers is its own. */
static __attribute__((noinline)) void sum_up_channel(const Desk *desk, int64_t P, const vec *weights, number *gradient, int64_t C,
                                                     int64_t c, int begins, int ends, int vectors) {
    const uint16_t *where = desk->where + c * desk->listed;
    const int32_t *first = desk->first;
    const int64_t count = desk->counts[c];
    const vec *near = desk->near;
    vec *sums = desk->sums + c * desk->listed;
    gradient += c;
    if (vectors == 1 && begins && ends) sum_up(where, first, count, near, P, weights, sums, gradient, C, 1, 1, 1);
    else if (begins && ends) sum_up(where, first, count, near, P, weights, sums, gradient, C, 1, 1, V);
    else if (begins) sum_up(where, first, count, near, P, weights, sums, gradient, C, 1, 0, V);
    else if (ends) sum_up(where, first, count, near, P, weights, sums, gradient, C, 0, 1, V);
    else sum_up(where, first, count, near, P, weights, sums, gradient, C, 0, 0, V);
}

/* The gradient of a group's inputs, with `vectors` vectors of outputs at a time: 1 if that is all of them, else V. */
static void sum_up_group(const Shape *shape, Group group, const number *outward, const vec *weights, const Desk *desk,
                         number *gradient, int vectors) {
    const int64_t C = shape->C, outs = blocks(shape->K, PER * vectors);
    for (int64_t block = 0; block < outs; block++) {
        if (vectors == 1) copy_near(shape, outward, group, block * PER, desk->near, 1);
        else copy_near(shape, outward, group, block * PER * V, desk->near, V);
        for (int64_t c = 0; c < C; c++)
            sum_up_channel(desk, shape->W + 2, weights + (block * C + c) * 9 * vectors, gradient, C, c, block == 0,
                           block == outs - 1, vectors);
    }
}

/* gradient [N, H, W, C] = dL/dx, or 0 where it is not wanted, from `outward`, dL/dout. Returns 0, or 1 if memory ran out. */
int gated_input_gradient(const Shape *shape, const Layer *layer, const uint8_t *codes, const number *outward, const number *weight,
                         const Strides *strides, number *gradient, int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C;
    const int vectors = shape->K <= PER ? 1 : V;
    const int64_t rows = at_most(at_least(NEAR / vectors / (W + 2) - 2, 1), H);
    const int64_t images = rows < H ? 1 : at_most(at_least(NEAR / vectors / ((W + 2) * (H + 2)), 1), N);
    const int64_t groups = images ? blocks(N, images) * blocks(H, rows) : 0, places = images * rows * W;
    const int64_t padded = images * (rows + 2) * (W + 2), listed = places + EIGHT;
    uint16_t *wheres = room(threads * C * listed * (int64_t)sizeof(uint16_t));
    int32_t *firsts = room(threads * places * (int64_t)sizeof(int32_t));
    int32_t *counts = room(threads * C * (int64_t)sizeof(int32_t));
    vec *nears = room(threads * padded * vectors * (int64_t)sizeof(vec));
    vec *sums = room(threads * C * listed * (int64_t)sizeof(vec));
    vec *weights = arranged_by_outputs(shape, weight, strides, vectors, threads);
    const int failed = !wheres || !firsts || !counts || !nears || !sums || !weights;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        const Desk desk = {listed, wheres + index * C * listed, firsts + index * places, counts + index * C,
                           nears + index * padded * vectors, sums + index * C * listed};
        memset(desk.near, 0, (size_t)(padded * vectors) * sizeof(vec));
        for (int64_t one = groups * index / threads; one < groups * (index + 1) / threads; one++) {
            const Group group = group_of(shape, images, rows, one);
            list_wanted(shape, layer, codes, group, listed, desk.where, desk.first, desk.counts);
            number *to = gradient + (group.n * H + group.top) * W * C;
            for (int64_t image = 0; image < group.images; image++)
                memset(to + image * H * W * C, 0, (size_t)(group.rows * W * C) * sizeof(number));
            sum_up_group(shape, group, outward, weights, &desk, to, vectors);
        }
    }
    free(wheres); free(firsts); free(counts); free(nears); free(sums); free(weights);
    return failed;
}
