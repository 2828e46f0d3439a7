/* The work of the packed engine with vectors of LANES bytes, for `engine.c`, which includes this several times. */

typedef uint64_t NAME(Bits) __attribute__((vector_size(LANES)));
typedef float NAME(Floats) __attribute__((vector_size(LANES)));
#define Bits NAME(Bits)
#define Floats NAME(Floats)
#define VECTORS (PLACES / LANES)
#define INLINE static inline __attribute__((always_inline))

#include "sums.h"

/* Whether they are those of our own networks, for which there is a faster way. */
INLINE int NAME(is_plain)(const Neurons *neurons) { return neurons->subtract == 0 && neurons->most == 1 && !(neurons->lowest > -INFINITY); }

/* One timestep of one output's neurons, driven by total * unit * scale + shift. */
INLINE void NAME(step)(const int32_t *restrict total, float unit, float scale, float shift, float keep, const Layer *l,
                       float *restrict v, uint8_t *restrict spikes) {
    const Neurons neurons = l->neurons;
    const float threshold = neurons.threshold;
    uint32_t spiked[PLACES];
    if (NAME(is_plain)(&neurons))
        for (int i = 0; i < PLACES; i++) {
            const float u = lif_step(keep, (float)total[i] * unit * scale + shift, threshold, &v[i]);
            spiked[i] = u >= threshold ? 1 : 0;
        }
    else
        for (int i = 0; i < PLACES; i++)
            spiked[i] = general_step(keep, (float)total[i] * unit * scale + shift, &neurons, &v[i]);
    for (int i = 0; i < PLACES; i++) spikes[i] = (uint8_t)spiked[i];
}

/* What a thread needs for its part: tiles of JOBS blocks of places, each at one timestep, for the outputs from `from` to `to`. */
static int64_t NAME(layer)(const Layer *given, const Lists *lists, const uint8_t *counts, const float *scale, const float *shift,
                           float *currents, uint8_t *spikes, int64_t index, int64_t parts) {
    const Layer flat = in_a_row(given), *l = &flat;
    const Blocks b = blocks_of(l);
    const int64_t places = l->N * l->outH * l->outW;
    const float unit = 1.0f / (float)l->divisor;
    Work work = {.blocks = b, .from = 0, .to = l->out};
    int64_t first = 0, end = b.count;
    if (b.count * l->T < 8 * JOBS * parts) part_of(l->out, index, parts, &work.from, &work.to); /* few: threads share the outputs */
    else part_of(b.count, index, parts, &first, &end);
    const int64_t outs = work.to - work.from;
    if (!outs || first == end) return 0;
    const size_t window = (size_t)(b.window + 2 * PLACES), laid = (INPUTS + 2) * PLACES, sums = (size_t)(outs * lists->planes) * PLACES;
    const size_t cells = (size_t)outs * (PLACES * sizeof(float) + sizeof(int32_t));
    uint8_t *memory = calloc(laid + sums + cells + (JOBS + 1) * window + PLACES, 1);
    if (!memory) return 1;
    work.laid = (uint8_t *)(((uintptr_t)memory + PLACES - 1) / PLACES * PLACES);
    work.sums = work.laid + laid;
    float *v = (float *)(work.sums + sums);
    work.beyond = (int32_t *)(v + outs * PLACES);
    work.window = (uint8_t *)(work.beyond + outs);
    for (int64_t job = first * l->T; job < end * l->T; job += work.jobs) {
        work.jobs = end * l->T - job < JOBS ? end * l->T - job : JOBS;
        for (int64_t j = 0; j < work.jobs; j++) work.job[j] = job_of(l, &b, job + j);
        NAME(sum_up)(l, lists, counts, &work);
        for (int64_t o = work.from; o < work.to; o++)
            for (int64_t j = 0; j < work.jobs; j++) {
                const Job *at = work.job + j;
                float *potential = v + (o - work.from) * PLACES; /* of one block: its timesteps come one after the other */
                int32_t total[PLACES];
                NAME(take)(&work, lists->planes, o - work.from, j, total);
                if (spikes) {
                    uint8_t spiked[PLACES];
                    if (!at->t) memset(potential, 0, PLACES * sizeof *potential);
                    NAME(step)(total, unit, scale[o], shift[o], at->t ? l->neurons.decay : 0.0f, l, potential, spiked);
                    uint8_t *to = spikes + (o * l->T + at->t) * places + at->place;
                    if (at->count == PLACES) memcpy(to, spiked, PLACES);
                    else memcpy(to, spiked, (size_t)at->count);
                } else {
                    float current[PLACES];
                    for (int i = 0; i < PLACES; i++) current[i] = (float)total[i] * unit * scale[o] + shift[o];
                    memcpy(currents + (o * l->T + at->t) * places + at->place, current, (size_t)at->count * sizeof *current);
                }
            }
    }
    free(memory);
    return 0;
}

static void NAME(lif)(const float *current, int64_t repeated, int64_t out, int64_t T, int64_t count, const Neurons *given,
                      uint8_t *spikes, int64_t index, int64_t parts) {
    const Neurons neurons = *given;
    const float threshold = neurons.threshold;
    int64_t from, to;
    part_of(out, index, parts, &from, &to);
    for (int64_t o = from; o < to; o++)
        for (int64_t first = 0; first < count; first += PLACES) {
            const int64_t here = count - first < PLACES ? count - first : PLACES;
            float v[PLACES] = {0};
            uint32_t spiked[PLACES];
            for (int64_t t = 0; t < T; t++) {
                const float *restrict at = current + (repeated ? o : o * T + t) * count + first;
                uint8_t *restrict to_spikes = spikes + (o * T + t) * count + first;
                const float keep = t ? neurons.decay : 0.0f;
                if (NAME(is_plain)(&neurons))
                    for (int64_t i = 0; i < here; i++) {
                        const float u = lif_step(keep, at[i], threshold, &v[i]);
                        spiked[i] = u >= threshold ? 1 : 0;
                    }
                else
                    for (int64_t i = 0; i < here; i++) spiked[i] = general_step(keep, at[i], &neurons, &v[i]);
                for (int64_t i = 0; i < here; i++) to_spikes[i] = (uint8_t)spiked[i];
            }
        }
}

/* One row of counts from `size` rows of spikes. Of two, neighbours are added as the bytes of a word. */
INLINE void NAME(pool_row)(int64_t size, const uint8_t *restrict in, int64_t W, int64_t outW, uint8_t *restrict out) {
    int64_t w = 0;
    for (; size == 2 && w + 4 <= outW; w += 4) {
        uint64_t above, below;
        memcpy(&above, in + 2 * w, sizeof above);
        memcpy(&below, in + W + 2 * w, sizeof below);
        uint64_t sum = above + below;
        sum = (sum & 0x00FF00FF00FF00FFu) + (sum >> 8 & 0x00FF00FF00FF00FFu);
        for (int i = 0; i < 4; i++) {
            uint16_t two;
            memcpy(&two, (uint8_t *)&sum + 2 * i, sizeof two);
            out[w + i] = (uint8_t)two;
        }
    }
    for (; w < outW; w++) {
        uint8_t sum = 0;
        for (int64_t i = 0; i < size; i++)
            for (int64_t j = 0; j < size; j++) sum = (uint8_t)(sum + in[i * W + w * size + j]);
        out[w] = sum;
    }
}

static void NAME(pool)(const uint8_t *spikes, int64_t planes, int64_t H, int64_t W, int64_t size, uint8_t *counts, int64_t index,
                       int64_t parts) {
    const int64_t outH = H / size, outW = W / size;
    int64_t from, to;
    part_of(planes * outH, index, parts, &from, &to);
    for (int64_t row = from; row < to; row++) {
        const uint8_t *restrict in = spikes + (row / outH * H + row % outH * size) * W;
        uint8_t *restrict out = counts + row * outW;
        if (size == 2) NAME(pool_row)(2, in, W, outW, out);
        else NAME(pool_row)(size, in, W, outW, out);
    }
}

/* sums[output][place] = the sums of one tile of up to 4 vectors of places for `outs` outputs, inputs in order. */
INLINE void NAME(add_in_order)(int outs, const float *laid, int64_t inputs, const float *weights, float *sums) {
    enum { TILE = 4, EACH = LANES / sizeof(float) };
    Floats sum[4][TILE];
    for (int o = 0; o < outs; o++)
        for (int v = 0; v < TILE; v++) sum[o][v] = (Floats){0};
    for (int64_t k = 0; k < inputs; k++)
        for (int o = 0; o < outs; o++) {
            const float weight = weights[o * inputs + k];
            for (int v = 0; v < TILE; v++) sum[o][v] += weight * *(const Floats *)(laid + k * TILE * EACH + v * EACH);
        }
    for (int o = 0; o < outs; o++) memcpy(sums + o * TILE * EACH, sum[o], sizeof sum[o]);
}

static int64_t NAME(ordered)(const Layer *l, const float *x, const int64_t *from, const float *weights, float *sums,
                             const int64_t *to, int64_t index, int64_t parts) {
    enum { TILE = 4 * LANES / sizeof(float) };
    const int64_t inputs = l->C * l->kernel * l->kernel, each = l->outH * l->outW, places = l->N * each;
    int64_t first, end;
    part_of((places + TILE - 1) / TILE, index, parts, &first, &end);
    float *memory = malloc((size_t)(inputs * TILE) * sizeof(float) + 64);
    if (!memory) return 1;
    float *laid = (float *)(((uintptr_t)memory + 63) / 64 * 64);
    for (int64_t tile = first; tile < end; tile++) {
        int64_t source[TILE], target[TILE];
        const int64_t count = places - tile * TILE < TILE ? places - tile * TILE : TILE;
        for (int64_t i = 0; i < TILE; i++) {
            const int64_t place = tile * TILE + (i < count ? i : count - 1), n = place / each, h = place % each / l->outW;
            source[i] = n * from[0] + h * l->stride * l->W + place % l->outW * l->stride;
            target[i] = n * to[0] + place % each;
        }
        for (int64_t k = 0; k < inputs; k++) {
            const int64_t taps = l->kernel * l->kernel, tap = k % taps;
            const float *plane = x + k / taps * from[1] + tap / l->kernel * l->W + tap % l->kernel;
            for (int64_t i = 0; i < TILE; i++) laid[k * TILE + i] = plane[source[i]];
        }
        for (int64_t o = 0; o < l->out; o += 4) {
            const int64_t outs = l->out - o < 4 ? l->out - o : 4;
            float found[4 * TILE];
            if (outs == 4) NAME(add_in_order)(4, laid, inputs, weights + o * inputs, found);
            else
                for (int64_t i = 0; i < outs; i++)
                    NAME(add_in_order)(1, laid, inputs, weights + (o + i) * inputs, found + i * TILE);
            for (int64_t i = 0; i < outs; i++)
                for (int64_t j = 0; j < count; j++) sums[(o + i) * to[1] + target[j]] = found[i * TILE + j];
        }
    }
    free(memory);
    return 0;
}

#undef Bits
#undef Floats
#undef VECTORS
#undef INLINE
