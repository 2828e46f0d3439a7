/* 3x3 convolutions of sparse inputs: a spike that was not fired costs nothing.
 *
 * Inputs x [N, H, W, C] and outputs, or their gradient, [N, H, W, K] lie channels last; stride 1, zero padding 1. Weights are
 * [K, C, 3, 3] with any strides. What is not zero in x is listed, as (where, value); the sums then run over the lists.
 * Inputs, outputs and their gradients are fp32, or bf16 where HALF is defined; weights, their gradient and all sums are fp32.
 *
 * - Forward, lists are by place: each entry adds its nine weights, of OUT outputs at a time, to the nine sums around it, which
 *   stay in registers.
 * - For the gradient of the weights they are by channel: each entry adds the nine gradients around it, one vector of outputs
 *   at a time, to nine sums that stay in registers.
 *
 * Every sum has a fixed order whatever the number of threads, but for the gradient of weights, where samples are parted.
 * Compile with contraction of a * b + c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "convolution.h"
#include "lists.h"

#define FORWARD 64       /* places, borders not included, worked on together in the forward pass, or those of one image */
#define NEAR 340         /* places, borders included, whose gradients are worked on together: a vector of each stays in cache */
#define LISTED (1 << 16) /* inputs, zeros included, that have their lists at the same time, for the gradient of the weights */
#define PARTIAL (1 << 24) /* sums, of all threads together, above which threads share out outputs and not samples */

static int64_t common(int64_t a, int64_t b) { return b ? common(b, a % b) : a; } /* the greatest common divisor */

/* How many numbers of every `step`th of N samples of `size` numbers each are not zero. */
int64_t count_not_zero(const number *x, int64_t N, int64_t size, int64_t step) {
    int64_t total = 0;
    for (int64_t n = 0; n < N; n += step) {
        mask count = {0};
        int64_t i = 0;
        for (; i + LANES <= size; i += LANES) count -= (mask)(vector_of(x + n * size + i) != 0.0f);
        for (; i < size; i++) total += one_of(x + n * size + i) != 0.0f;
        for (int lane = 0; lane < LANES; lane++) total += count[lane];
    }
    return total;
}

/* Add a row of W inputs, whose entries start at `start`, to the sums [3, W + 2, OUT] of the rows of outputs above, at and below
 * it, from number `top` to before `bottom` of the three; their first column is to the left of the image. */
INLINE void add_row(const int32_t *start, int64_t W, const uint8_t *where, const entry *value, const float *weights, float *sums,
                    const int top, const int bottom) {
    vec s[3][3][V];
    for (int r = top; r < bottom; r++)
        for (int v = 0; v < 2 * V; v++) s[r][v / V][v % V] = *(const vec *)(sums + r * (W + 2) * OUT + v * LANES);
    for (int64_t w = 0; w < W; w++) {
        for (int r = top; r < bottom; r++)
            for (int v = 0; v < V; v++) s[r][2][v] = *(const vec *)(sums + (r * (W + 2) + w + 2) * OUT + v * LANES);
        for (int64_t i = start[w]; i < start[w + 1]; i++) {
            const float *from = weights + (uint64_t)where[i] * (9 * OUT);
            __asm__("" : "+r"(from)); /* added to once an entry, not in each operand: 1.7 times as fast (GCC 12, Zen 3) */
            const entry one = value[i];
            for (int r = top; r < bottom; r++)
                for (int q = 0; q < 3; q++)
                    for (int v = 0; v < V; v++)
                        s[r][q][v] = add_product(s[r][q][v], one, *(const vec *)(from + (3 * r + q) * OUT + v * LANES));
        }
        for (int r = top; r < bottom; r++)
            for (int v = 0; v < V; v++) {
                *(vec *)(sums + (r * (W + 2) + w) * OUT + v * LANES) = s[r][0][v];
                s[r][0][v] = s[r][1][v];
                s[r][1][v] = s[r][2][v];
            }
    }
    for (int r = top; r < bottom; r++)
        for (int v = 0; v < 2 * V; v++) *(vec *)(sums + (r * (W + 2) + W) * OUT + v * LANES) = s[r][v / V][v % V];
}

/* `count` sums to out, rounded if that is bf16. */
INLINE void store(int64_t count, const float *sums, number *out) {
    const int64_t half = sizeof(number) == 2;
    for (int64_t k = 0; k < count; k += LANES) {
        if (count - k < LANES) save(half, count - k, *(const vec *)(sums + k), out, k);
        else save(half, LANES, *(const vec *)(sums + k), out, k);
    }
}

/* out = the convolution of x with weight. Returns 0, or 1 if memory ran out. */
int sparse_forward(const Shape *shape, const number *x, const float *weight, const Strides *strides, number *out,
                   int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C, K = shape->K;
    const int64_t ins = blocks(C, IN), outs = blocks(K, OUT);
    const int64_t images = at_most(blocks(FORWARD, H * W), N), groups = images ? blocks(N, images) : 0;
    const int64_t listed = images * H * W * ins, padded = images * (H + 2) * (W + 2) * OUT;
    uint8_t *wheres = room(threads * (listed * IN + LANES));
    entry *values = room(threads * (listed * IN + LANES) * (int64_t)sizeof(entry));
    int32_t *all_starts = room(threads * (listed + 1) * (int64_t)sizeof(int32_t));
    float *all_sums = room(threads * padded * (int64_t)sizeof(float));
    float *weights = arranged(shape, weight, strides, PAIR, threads);
    const int failed = !wheres || !values || !all_starts || !all_sums || !weights;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        uint8_t *where = wheres + index * (listed * IN + LANES);
        entry *value = values + index * (listed * IN + LANES);
        float *sums = all_sums + index * padded;
        int32_t *start = all_starts + index * (listed + 1);
        for (int64_t group = groups * index / threads; group < groups * (index + 1) / threads; group++) {
            const int64_t n = group * images, lines = at_most(images, N - n) * H;
            int64_t entries = 0;
            for (int64_t in = 0; in < ins; in++)
                for (int64_t place = 0; place < lines * W; place++) {
                    const number *from = x + (n * H * W + place) * C + in * IN;
                    start[in * lines * W + place] = (int32_t)entries;
                    entries += list(from, at_most(C - in * IN, IN), where + entries, value + entries);
                }
            start[ins * lines * W] = (int32_t)entries;
            for (int64_t block = 0; block < outs; block++) {
                memset(sums, 0, (size_t)padded * sizeof(float));
                for (int64_t line = 0; line < ins * lines; line++) {
                    const float *own = weights + (block * ins + line / lines) * (IN / PAIR) * 9 * OUT;
                    const int64_t image = line % lines / H, h = line % H;
                    const int32_t *s = start + line * W;
                    float *to = sums + (image * (H + 2) + h) * (W + 2) * OUT;
                    if (H == 1) add_row(s, W, where, value, own, to, 1, 2);
                    else if (h == 0) add_row(s, W, where, value, own, to, 1, 3);
                    else if (h == H - 1) add_row(s, W, where, value, own, to, 0, 2);
                    else add_row(s, W, where, value, own, to, 0, 3);
                }
                for (int64_t place = 0; place < lines * W; place++) {
                    const int64_t row = place / W + place / (H * W) * 2 + 1, column = place % W + 1;
                    store(at_most(K - block * OUT, OUT), sums + (row * (W + 2) + column) * OUT,
                          out + (n * H * W + place) * K + block * OUT);
                }
            }
        }
    }
    free(wheres); free(values); free(all_starts); free(all_sums); free(weights);
    return failed;
}

#if PAIR == 2
INLINE entry entry_of(const number *left, const number *right) { return *left | (left != right ? (uint32_t)*right << 16 : 0); }

/* A vector of a place's gradients, bf16, in the lower halves and its right neighbour's in the upper ones. */
INLINE vec with_next(vec here, vec next) { return (vec)((words)here >> 16 | (words)next); }
#else
INLINE entry entry_of(const number *left, const number *right) { return (void)right, one_of(left); }
INLINE vec with_next(vec here, vec next) { return (void)next, here; }
#endif

/* Where an entry's inputs are in a group, the right one the left one again at the end of a row or where entries are of one input,
 * and how many places, borders included, are before the first of the nine gradients that it meets. */
typedef struct {
    uint16_t left, right, near;
} Spot;

static void fill_spots(Group group, int64_t W, Spot *spots) {
    for (int64_t row = 0; row < group.images * group.rows; row++)
        for (int64_t w = 0; w < W; w += PAIR) {
            const int64_t left = row * W + w, right = w + PAIR <= W ? left + PAIR - 1 : left;
            const int64_t near = (row + row / group.rows * 2) * (W + 2) + w;
            *spots++ = (Spot){(uint16_t)left, (uint16_t)right, (uint16_t)near};
        }
}

/* Add those of `count` spots, the first of which is number `first`, that have inputs other than zero to the lists of their
 * channels, of which the `n` from c0 on are looked at. */
INLINE void list_eight(const number *x, int64_t C, int64_t c0, const int64_t n, const Spot *spots, int64_t first,
                       const int64_t count, int64_t room, uint16_t *where, int32_t *counts) {
    const int64_t half = sizeof(number) == 2;
    mask bits = {0};
    for (int64_t i = 0; i < count; i++) {
        mask any = (mask)(load(half, n, x, spots[first + i].left * C + c0) != 0.0f);
        if (PAIR > 1) any |= (mask)(load(half, n, x, spots[first + i].right * C + c0) != 0.0f);
        bits |= any & (int32_t)(1 << i);
    }
    for (int64_t lane = 0; lane < n; lane++) {
        const int64_t c = c0 + lane;
        counts[c] += add_places(where + c * room + counts[c], first, (uint32_t)bits[lane]);
    }
}

/* List a group's inputs by channel: channel c's entries are c * room and on, counts[c] of them. Where an entry is counts
 * places, borders included, up to the first of the nine gradients that it meets. */
static void list_channels(const Shape *shape, const number *x, Group group, int64_t room, uint16_t *where, entry *value,
                          int32_t *counts, Spot *spots) {
    const int64_t W = shape->W, C = shape->C, all = group.images * group.rows * blocks(W, PAIR);
    x += (group.n * shape->H + group.top) * W * C;
    memset(counts, 0, (size_t)C * sizeof(int32_t));
    fill_spots(group, W, spots);
    for (int64_t first = 0; first < all; first += EIGHT)
        for (int64_t c0 = 0; c0 < C; c0 += LANES) {
            const int64_t n = at_most(C - c0, LANES), count = at_most(all - first, EIGHT);
            if (n == LANES && count == EIGHT) list_eight(x, C, c0, LANES, spots, first, EIGHT, room, where, counts);
            else list_eight(x, C, c0, n, spots, first, count, room, where, counts);
        }
    for (int64_t c = 0; c < C; c++)
        for (int64_t i = c * room; i < c * room + counts[c]; i++) {
            const Spot spot = spots[where[i]];
            value[i] = entry_of(x + spot.left * C + c, x + spot.right * C + c);
            where[i] = spot.near;
        }
}

/* near [W + 2] = a vector of the gradients of a row, `n` outputs of the K in each place; where entries are pairs, each with the
 * gradient to its right. */
INLINE void copy_row(const number *row, int64_t W, int64_t K, const int64_t n, vec *near) {
    vec here = {0};
    for (int64_t w = 0; w < W; w++) {
        const vec next = load(sizeof(number) == 2, n, row, w * K);
        near[w] = with_next(here, next);
        here = next;
    }
    near[W] = with_next(here, (vec){0});
    near[W + 1] = (vec){0};
}

/* near = a vector of outputs, from k on, of a group's gradients, zero beyond the image. */
static void copy_near(const Shape *shape, const number *outward, Group group, int64_t k, vec *near) {
    const int64_t H = shape->H, W = shape->W, K = shape->K;
    for (int64_t line = 0; line < group.images * (group.rows + 2); line++, near += W + 2) {
        const int64_t h = group.top + line % (group.rows + 2) - 1;
        const number *row = outward + ((group.n + line / (group.rows + 2)) * H + h) * W * K + k;
        if (h < 0 || h >= H) memset(near, 0, (size_t)(W + 2) * sizeof(vec));
        else if (K - k < LANES) copy_row(row, W, K, K - k, near);
        else copy_row(row, W, K, LANES, near);
    }
}

/* sums[9 vectors] += the sums over `count` entries of value * the nine vectors around where. */
static void add_nine(const uint16_t *restrict where, const entry *restrict value, int64_t count, const vec *restrict near,
                     int64_t P, vec *restrict sums) {
    vec s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3], s4 = sums[4], s5 = sums[5], s6 = sums[6], s7 = sums[7],
        s8 = sums[8];
    for (int64_t i = 0; i < count; i++) {
        const entry one = value[i];
        const vec *a = near + where[i], *b = a + P, *c = b + P;
        s8 = add_product(s8, one, a[0]); s7 = add_product(s7, one, a[1]); s6 = add_product(s6, one, a[2]);
        s5 = add_product(s5, one, b[0]); s4 = add_product(s4, one, b[1]); s3 = add_product(s3, one, b[2]);
        s2 = add_product(s2, one, c[0]); s1 = add_product(s1, one, c[1]); s0 = add_product(s0, one, c[2]);
    }
    sums[0] = s0; sums[1] = s1; sums[2] = s2; sums[3] = s3; sums[4] = s4; sums[5] = s5; sums[6] = s6; sums[7] = s7;
    sums[8] = s8;
}

/* gradient = dL/dweight of the convolution, from x and `outward`, the gradient of its output. Returns as above. */
int sparse_weight_gradient(const Shape *shape, const number *x, const number *outward, float *gradient, const Strides *strides,
                           int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C, K = shape->K, outs = blocks(K, LANES);
    const int64_t rows = at_most(at_least(NEAR / (W + 2) - 2, 1), H);
    const int64_t images = rows < H ? 1 : at_most(at_least(NEAR / ((W + 2) * (H + 2)), 1), N);
    const int64_t groups = blocks(N, images) * blocks(H, rows), spots = images * rows * blocks(W, PAIR);
    const int64_t together = at_most(at_least(LISTED / (C * spots), 1), groups), listed = spots + EIGHT;
    const int64_t padded = images * (rows + 2) * (W + 2), sums = 9 * C * LANES;
    const int64_t shares = threads * outs * sums > PARTIAL ? common(threads, outs) : 1, parts = threads / shares;
    uint16_t *wheres = room(threads * together * C * listed * (int64_t)sizeof(uint16_t));
    entry *values = room(threads * together * C * listed * (int64_t)sizeof(entry));
    int32_t *all_counts = room(threads * together * C * (int64_t)sizeof(int32_t));
    Spot *all_spots = room(threads * spots * (int64_t)sizeof(Spot));
    vec *around = room(threads * padded * (int64_t)sizeof(vec));
    float *partial = room(parts * outs * sums * (int64_t)sizeof(float));
    const int failed = !wheres || !values || !all_counts || !all_spots || !around || !partial;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        const int64_t share = index % shares, part = index / shares, end = groups * (part + 1) / parts;
        const int64_t from = outs * share / shares, to = outs * (share + 1) / shares;
        vec *near = around + index * padded;
        float *own = partial + part * outs * sums;
        memset(own + from * sums, 0, (size_t)((to - from) * sums) * sizeof(float));
        for (int64_t start = groups * part / parts; start < end; start += together) {
            const int64_t count = at_most(together, end - start), lists = index * together * C;
            for (int64_t g = 0; g < count; g++)
                list_channels(shape, x, group_of(shape, images, rows, start + g), listed, wheres + (lists + g * C) * listed,
                              values + (lists + g * C) * listed, all_counts + lists + g * C, all_spots + index * spots);
            for (int64_t work = from * count; work < to * count; work++) {
                const int64_t block = work / count, g = work % count;
                copy_near(shape, outward, group_of(shape, images, rows, start + g), block * LANES, near);
                for (int64_t c = 0; c < C; c++) {
                    const int64_t one = lists + g * C + c;
                    add_nine(wheres + one * listed, values + one * listed, all_counts[one], near, W + 2,
                             (vec *)(own + block * sums + c * 9 * LANES));
                }
            }
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t work = 0; work < (failed ? 0 : outs * C); work++) {
        const int64_t block = work / C, c = work % C, count = at_most(K - block * LANES, LANES);
        for (int64_t tap = 0; tap < 9; tap++) {
            const float *from = partial + block * sums + (c * 9 + tap) * LANES;
            float *to = gradient + block * LANES * strides->k + c * strides->c + tap / 3 * strides->row + tap % 3 * strides->column;
            vec total = {0};
            for (int64_t part = 0; part < parts; part++) total += *(const vec *)(from + part * outs * sums);
            for (int64_t lane = 0; lane < count; lane++) to[lane * strides->k] = total[lane];
        }
    }
    free(wheres); free(values); free(all_counts); free(all_spots); free(around); free(partial);
    return failed;
}
