/* The work of the packed engine with vectors of LANES bytes, for `engine.c`, which includes this several times.
 *
 * Hidden layers: weights are -1, 0 and +1, and of a ternary network most are 0. So each output has lists of the inputs that it adds and
 * of those that it subtracts, and its sums at PLACES places are additions of vectors of bytes, counts of spikes, and of nothing else.
 * As many as fit are added up in 8 bits; neighbours at even and odd places are then added up in 16 bits without being taken apart:
 * `both` adds up 256 * odd + even, `odds` adds up odd, modulo 2^16, and the even one is what is left.
 */

typedef uint8_t NAME(Bytes) __attribute__((vector_size(LANES)));
typedef uint16_t NAME(Words) __attribute__((vector_size(LANES)));
typedef float NAME(Floats) __attribute__((vector_size(LANES)));
#define Bytes NAME(Bytes)
#define Words NAME(Words)
#define Floats NAME(Floats)
#define VECTORS (PLACES / LANES)
#define INLINE static inline __attribute__((always_inline))

/* Where the places of a block lie in a plane of counts: runs of neighbours, each `length` from `source`. */
typedef struct { int64_t source, length; } NAME(Run);
#define Run NAME(Run)

/* both, odds += times * the rows of `laid` that `list` names, `fit` of which add up in 8 bits. */
INLINE void NAME(add_list)(int vectors, const uint8_t *laid, const uint16_t *list, int64_t count, int64_t fit, int times, Words *both,
                           Words *odds) {
    while (count > 0) {
        const int64_t now = count < fit ? count : fit;
        Bytes sum[VECTORS];
        for (int v = 0; v < vectors; v++) sum[v] = (Bytes){0};
        int64_t i = 0;
        for (; i + 4 <= now; i += 4)
            for (int j = 0; j < 4; j++)
                for (int v = 0; v < vectors; v++) sum[v] += *(const Bytes *)(laid + list[i + j] + v * LANES);
        for (; i < now; i++)
            for (int v = 0; v < vectors; v++) sum[v] += *(const Bytes *)(laid + list[i] + v * LANES);
        for (int v = 0; v < vectors; v++) {
            const Words words = (Words)sum[v];
            if (times == 1) {
                both[v] += words;
                odds[v] += words >> 8;
            } else if (times == -1) {
                both[v] -= words;
                odds[v] -= words >> 8;
            } else {
                both[v] -= words + words;
                odds[v] -= (words >> 8) + (words >> 8);
            }
        }
        list += now;
        count -= now;
    }
}

/* What a thread works with: a block of up to PLACES places of one timestep, and all outputs from `from` to `to`. */
typedef struct {
    int64_t place, count, from, to;
    uint8_t *laid;   /* counts of a block of inputs, [input][place], and a row of zeros */
    Words *sums;     /* [output][both, odds][vector] */
    int32_t *wide;   /* [output][place], where 16 bits are too few */
    float *v;        /* potentials, [output][place] */
} NAME(Work);
#define Work NAME(Work)

/* The lists of one block of inputs, for all outputs of `work`. */
INLINE void NAME(add_block)(int vectors, const Layer *l, const Lists *lists, const Work *work, int64_t block, int64_t inputs) {
    const int64_t most = 255 / l->counts_to, fit = most >= 4 ? most / 4 * 4 : most;
    const int64_t whole = work->from == 0 && work->to == lists->out;
    Words all_both[VECTORS], all_odds[VECTORS];
    for (int v = 0; v < vectors; v++) all_both[v] = all_odds[v] = (Words){0};
    if (lists->dense) {
        uint16_t every[INPUTS];
        for (int64_t i = 0; i < inputs; i++) every[i] = (uint16_t)(i * PLACES);
        NAME(add_list)(vectors, work->laid, every, inputs, fit, 1, all_both, all_odds);
    }
    for (int64_t at = block * lists->out; at < (block + 1) * lists->out; at++) {
        const int64_t o = lists->order[at];
        if (!whole && (o < work->from || o >= work->to)) continue;
        const uint32_t *start = lists->starts + 2 * at;
        Words *sums = work->sums + (o - work->from) * 2 * VECTORS, both[VECTORS], odds[VECTORS];
        for (int v = 0; v < vectors; v++) {
            both[v] = sums[v] + all_both[v];
            odds[v] = sums[VECTORS + v] + all_odds[v];
        }
        const uint16_t *one = lists->entries + start[0], *two = lists->entries + start[1];
        if (lists->dense) {
            NAME(add_list)(vectors, work->laid, one, two - one, fit, -1, both, odds);
            NAME(add_list)(vectors, work->laid, two, start[2] - start[1], fit, -2, both, odds);
        } else {
            NAME(add_list)(vectors, work->laid, one, two - one, fit, 1, both, odds);
            NAME(add_list)(vectors, work->laid, two, start[2] - start[1], fit, -1, both, odds);
        }
        for (int v = 0; v < vectors; v++) {
            sums[v] = both[v];
            sums[VECTORS + v] = odds[v];
        }
    }
}

static void NAME(add_inputs)(const Layer *l, const Lists *lists, const Work *work, int64_t block, int64_t inputs) {
    const int64_t vectors = (work->count + LANES - 1) / LANES;
    if (vectors == 1) NAME(add_block)(1, l, lists, work, block, inputs);
#if LANES < 64
    else if (vectors == 2) NAME(add_block)(2, l, lists, work, block, inputs);
#endif
#if LANES < 32
    else NAME(add_block)(4, l, lists, work, block, inputs);
#endif
}

/* The sums of one output as numbers; those in 16 bits begin anew. */
INLINE void NAME(take)(const Work *work, int64_t o, int32_t *total) {
    Words *sums = work->sums + (o - work->from) * 2 * VECTORS;
    for (int v = 0; v < VECTORS; v++) {
        uint16_t odd[LANES / 2], even[LANES / 2];
        const Words left = sums[v] - (sums[VECTORS + v] << 8);
        memcpy(odd, &sums[VECTORS + v], LANES);
        memcpy(even, &left, LANES);
        int32_t *to = total + v * LANES;
        for (int i = 0; i < LANES / 2; i++) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
            to[2 * i] += (int16_t)odd[i];
            to[2 * i + 1] += (int16_t)even[i];
#else
            to[2 * i] += (int16_t)even[i];
            to[2 * i + 1] += (int16_t)odd[i];
#endif
        }
        sums[v] = sums[VECTORS + v] = (Words){0};
    }
}

/* Copies `length` bytes, or up to seven more. */
INLINE void NAME(copy)(uint8_t *to, const uint8_t *from, int64_t length) {
    int64_t j = 0;
    for (; j + 32 <= length; j += 32) memcpy(to + j, from + j, 32);
    for (; j + 16 <= length; j += 16) memcpy(to + j, from + j, 16);
    for (; j < length; j += 8) memcpy(to + j, from + j, 8);
}

/* Lay out the rows of inputs `first` to `first + inputs` (of channels and taps); returns whether there is a spike among them. */
static int NAME(lay_out)(const Layer *l, const uint8_t *counts, int64_t t, const Run *runs, int64_t run_count, int64_t first,
                         int64_t inputs, uint8_t *laid) {
    const int64_t taps = l->kernel * l->kernel, image = l->N * l->H * l->W;
    uint64_t any = 0;
    for (int64_t i = 0; i < inputs; i++) {
        const int64_t c = (first + i) / taps, tap = (first + i) % taps;
        const uint8_t *plane = counts + (c * l->T + t) * image + tap / l->kernel * l->W + tap % l->kernel;
        uint8_t *row = laid + i * PLACES, *to = row;
        for (int64_t r = 0; r < run_count; to += runs[r].length, r++) {
            const uint8_t *from = plane + runs[r].source;
            if (l->stride == 1) NAME(copy)(to, from, runs[r].length); /* what runs over is overwritten by the next */
            else
                for (int64_t j = 0; j < runs[r].length; j++) to[j] = from[j * l->stride];
        }
        uint64_t eights[PLACES / 8];
        memcpy(eights, row, PLACES);
        for (int j = 0; j < PLACES / 8; j++) any |= eights[j];
    }
    return any != 0;
}

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

/* All sums of a block at one timestep, left in work->sums, and in work->wide where 16 bits are too few. */
static void NAME(sum_block)(const Layer *l, const Lists *lists, const uint8_t *counts, int64_t t, const Work *work) {
    const int64_t all = l->C * l->kernel * l->kernel;
    Run runs[PLACES];
    int64_t run_count = 0;
    for (int64_t at = work->place, end = work->place + work->count; at < end;) {
        const int64_t n = at / (l->outH * l->outW), h = at / l->outW % l->outH, w = at % l->outW;
        const int64_t length = l->outW - w < end - at ? l->outW - w : end - at;
        runs[run_count++] = (Run){(n * l->H + h * l->stride) * l->W + w * l->stride, length};
        at += length;
    }
    for (int64_t block = 0; block < lists->blocks; block++) {
        const int64_t first = block * INPUTS, inputs = all - first < INPUTS ? all - first : INPUTS;
        if (!NAME(lay_out)(l, counts, t, runs, run_count, first, inputs, work->laid)) continue; /* silent: adds nothing */
        NAME(add_inputs)(l, lists, work, block, inputs);
        for (int64_t o = work->from; !lists->fits && o < work->to; o++)
            NAME(take)(work, o, work->wide + (o - work->from) * PLACES);
    }
}

static int64_t NAME(layer)(const Layer *l, const Lists *lists, const uint8_t *counts, const float *scale, const float *shift,
                           float *currents, uint8_t *spikes, int64_t index, int64_t parts) {
    const int64_t places = l->N * l->outH * l->outW, blocks = (places + PLACES - 1) / PLACES;
    const int64_t pieces = blocks < parts ? parts : 1; /* few places: threads share the outputs */
    const int64_t most = l->out / pieces + 1;
    const float unit = 1.0f / (float)l->divisor;
    int64_t from, to;
    part_of(blocks * pieces, index, parts, &from, &to);
    const size_t laid = (INPUTS + 2) * PLACES, sums = (size_t)most * 2 * PLACES, cells = (size_t)most * PLACES;
    const size_t size = laid + sums + cells * (sizeof(float) + (lists->fits ? 0 : sizeof(int32_t))) + 64;
    uint8_t *memory = malloc(size);
    if (!memory) return 1;
    memset(memory, 0, laid + sums + 64);
    Work work;
    work.laid = (uint8_t *)(((uintptr_t)memory + 63) / 64 * 64);
    work.sums = (Words *)(work.laid + laid);
    work.v = (float *)(work.laid + laid + sums);
    work.wide = (int32_t *)(work.v + cells);
    for (int64_t number = from; number < to; number++) {
        part_of(l->out, number % pieces, pieces, &work.from, &work.to);
        work.place = number / pieces * PLACES;
        work.count = places - work.place < PLACES ? places - work.place : PLACES;
        const size_t here = (size_t)((work.to - work.from) * PLACES);
        memset(work.v, 0, here * sizeof(float));
        for (int64_t t = 0; t < l->T; t++) {
            if (!lists->fits) memset(work.wide, 0, here * sizeof(int32_t));
            NAME(sum_block)(l, lists, counts, t, &work);
            for (int64_t o = work.from; o < work.to; o++) {
                const int64_t at = (o * l->T + t) * places + work.place;
                int32_t total[PLACES];
                if (lists->fits) memset(total, 0, sizeof total);
                else memcpy(total, work.wide + (o - work.from) * PLACES, sizeof total);
                NAME(take)(&work, o, total);
                if (spikes) {
                    uint8_t spiked[PLACES];
                    NAME(step)(total, unit, scale[o], shift[o], t ? l->neurons.decay : 0.0f, l,
                               work.v + (o - work.from) * PLACES, spiked);
                    memcpy(spikes + at, spiked, (size_t)work.count);
                } else {
                    float current[PLACES];
                    for (int i = 0; i < PLACES; i++) current[i] = (float)total[i] * unit * scale[o] + shift[o];
                    memcpy(currents + at, current, (size_t)work.count * sizeof(float));
                }
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

INLINE void NAME(pool_row)(int64_t size, const uint8_t *restrict in, int64_t W, int64_t outW, uint8_t *restrict out) {
    for (int64_t w = 0; w < outW; w++) {
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

#undef Bytes
#undef Words
#undef Floats
#undef VECTORS
#undef INLINE
#undef Run
#undef Work
