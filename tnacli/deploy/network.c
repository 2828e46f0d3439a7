/* The part of an exported network that is the same for all; @PREFIX@ and what is above it are filled in by c.py.
 *
 * A layer is worked off by rows of its output, pooled; the rows of its input that they see lie unpacked in a window, which
 * moves down with them. For one row of one channel the weights that are not 0 are decoded once, to the places in the
 * window that they read, and added up for four timesteps at a time: a word holds the spike counts of four timesteps, a
 * lane of eight bits each. Between layers a count takes as many bits as it needs. Fully connected layers are convolutions
 * of 1x1 over a map of 1x1. What is left out adds zero. */
#define LANES(t) (8 * ((t) & 3)) /* where timestep t lies in word t / 4 */
#define MIDDLE 0x80808080u /* lanes from which as much can be taken as added to them */

static int32_t at_most(int32_t value, int32_t ceiling) { return value > ceiling ? ceiling : value; }

/* The counts of value `place` of the packed spikes, all timesteps. */
static void unpack(const uint8_t *packed, int32_t bits, int32_t place, word *to)
{
    uint32_t at = (uint32_t)place * (uint32_t)(T * bits);
    int32_t t;
    for (t = 0; t < WORDS; t++) {
        to[t].lanes = 0;
    }
    for (t = 0; t < T; t++, at += (uint32_t)bits) {
        const uint32_t both = packed[at >> 3] | (uint32_t)packed[(at >> 3) + 1] << 8;
        to[t / 4].lanes |= (both >> (at & 7) & ((1u << bits) - 1)) << LANES(t);
    }
}

static void pack(uint8_t *packed, int32_t bits, int32_t place, const word *from)
{
    uint32_t at = (uint32_t)place * (uint32_t)(T * bits);
    int32_t t;
    for (t = 0; t < T; t++, at += (uint32_t)bits) {
        const uint32_t count = (from[t / 4].lanes >> LANES(t) & 255) << (at & 7);
        if (count) {
            packed[at >> 3] = (uint8_t)(packed[at >> 3] | count);
            packed[(at >> 3) + 1] = (uint8_t)(packed[(at >> 3) + 1] | count >> 8);
        }
    }
}

/* Moves the window to what the neurons from `row` on see, `down` rows of them after those that it was moved to before, 0 for
 * none: the rows that it has stay, the rest is read. Columns lie in the order in which neurons side by side read them: for a
 * stride of 2 the even ones, then the odd ones. */
static void slide(const weights *l, word *memory, const given *input, int32_t row, int32_t down)
{
    const int32_t apart = l->stride * l->pitch, moved = down * l->stride;
    const int32_t words = input ? 1 : WORDS, channels = input ? FRAMES * l->in : l->in;
    const int32_t kept = moved && l->rows > moved ? l->rows - moved : 0;
    int32_t c, i, x;
    for (c = 0; c < channels; c++) {
        word *window = memory + l->window + c * l->rows * apart * words;
        for (i = 0; i < kept * apart * words; i++) {
            window[i] = window[i + moved * apart * words];
        }
        for (; i < l->rows * apart * words; i++) {
            window[i].lanes = 0; /* whatever number it is */
        }
        for (i = kept; i < l->rows; i++) {
            const int32_t from = row * l->stride - l->padding + i;
            if (from >= 0 && from < l->height) {
                for (x = 0; x < l->width; x++) {
                    const int32_t place = (c * l->height + from) * l->width + x, column = x + l->padding;
                    const int32_t order = (column & (l->stride - 1)) * l->pitch + (column >> (l->stride >> 1));
                    word *to = window + (i * apart + order) * words;
                    if (input) {
                        to->value = input_value(input, place);
                    } else {
                        unpack((const uint8_t *)(memory + l->input), l->bits, place, to);
                    }
                }
            }
        }
    }
}

/* Where in the window the neuron at the left reads what weight `n` of a channel, counted over its rows, is multiplied by. */
static int32_t place_of(const weights *l, int32_t n)
{
    const int32_t i = n / l->kernel, j = n - i * l->kernel;
    return i * l->stride * l->pitch + (j & (l->stride - 1)) * l->pitch + (j >> (l->stride >> 1));
}

/* Fills the list of the places that output channel o adds, and from its end backwards of those that it takes away; where
 * the first end comes back, `taken` is where the others begin. */
static word *decode(const weights *l, word *memory, int32_t o, word **taken)
{
    word *plus = memory + l->list, *minus = plus + l->most;
    const word *places = memory + l->places;
    const uint8_t *row = l->codes + o * l->row_bytes, *end = row + l->row_bytes;
    const int32_t side = l->kernel * l->kernel, channel = l->rows * l->stride * l->pitch * WORDS;
    const int32_t jump = side < 4 ? 4 * channel : 0, leap = side < 4 ? 0 : 4; /* four weights on: kernels are odd */
    int32_t base = o / l->group_out * l->group_in * channel, n = 0, m;
    for (; row < end; row++) {
        uint32_t codes = @PREFIX_UPPER@_BYTE(row) ^ 0x55u; /* of each two bits one says that it is not 0, the other that it is +1 */
        for (m = n; codes; codes >>= 2, m++) {
            if (codes & 1) {
                const int32_t place = base + places[m].sum;
                if (codes & 2) {
                    (plus++)->sum = place;
                } else {
                    (--minus)->sum = place;
                }
            }
        }
        base += jump;
        n += leap;
        if (n >= side) {
            n -= side;
            base += channel;
        }
    }
    *taken = minus;
    return plus;
}

static void spill(word *sums, uint32_t lanes)
{
    sums[0].sum += (int32_t)(lanes & 255) - 128;
    sums[1].sum += (int32_t)(lanes >> 8 & 255) - 128;
    sums[2].sum += (int32_t)(lanes >> 16 & 255) - 128;
    sums[3].sum += (int32_t)(lanes >> 24) - 128;
}

/* The sums of channel o for `pool` rows of `columns` neurons. */
static void add_up(const weights *l, word *memory, int32_t o, int32_t pool, int32_t columns)
{
    const word *const list = memory + l->list, *const end = list + l->most;
    word *sums = memory + l->sums, *negative;
    const word *const positive = decode(l, memory, o, &negative);
    const int32_t words = columns * WORDS;
    int32_t r, k;
    for (k = 0; k < pool * words * 4; k++) {
        sums[k].sum = 0;
    }
    for (r = 0; r < pool; r++) {
        const word *from = memory + l->window + r * l->stride * l->stride * l->pitch * WORDS;
        for (k = 0; k < words;) {
            const word *plus = list, *minus = negative;
            const int32_t four = words - k >= 4;
            do { /* as many as lanes can hold */
                const word *until = plus + at_most((int32_t)(positive - plus), l->reach);
                const word *stop = minus + at_most((int32_t)(end - minus), l->reach - (int32_t)(until - plus));
                uint32_t a = MIDDLE, b = MIDDLE, c = MIDDLE, d = MIDDLE;
                if (four) {
                    for (; plus < until; plus++) {
                        const word *w = from + plus->sum;
                        a += w[0].lanes;
                        b += w[1].lanes;
                        c += w[2].lanes;
                        d += w[3].lanes;
                    }
                    for (; minus < stop; minus++) {
                        const word *w = from + minus->sum;
                        a -= w[0].lanes;
                        b -= w[1].lanes;
                        c -= w[2].lanes;
                        d -= w[3].lanes;
                    }
                    spill(sums + 4, b);
                    spill(sums + 8, c);
                    spill(sums + 12, d);
                } else {
                    for (; plus < until; plus++) {
                        a += from[plus->sum].lanes;
                    }
                    for (; minus < stop; minus++) {
                        a -= from[minus->sum].lanes;
                    }
                }
                spill(sums, a);
            } while (plus < positive || minus < end);
            k += four ? 4 : 1;
            from += four ? 4 : 1;
            sums += four ? 16 : 4;
        }
    }
}

/* The currents of the neuron whose sums these are; they are added to those that are there already where `besides` is set. */
static void drive(const weights *l, int32_t o, const word *sums, word *current, int besides)
{
    const factors made = factors_of(l, o);
    int32_t t;
    for (t = 0; t < T; t++) {
        number driven = current_of(&made, sums[t].sum);
        if (besides) {
            driven = current[t].value + driven;
        }
        current[t].value = driven;
    }
}

/* The currents of one neuron of the first layer. */
static void encode(const weights *l, const word *memory, int32_t o, int32_t r, int32_t x, word *current)
{
    const int32_t side = l->kernel * l->kernel, apart = l->stride * l->pitch;
    const factors made = factors_of(l, o);
    int32_t t, c, n;
    for (t = 0; t < FRAMES; t++) {
        const word *from = memory + l->window + (t * l->in * l->rows + r * l->stride) * apart + x;
        const outer_weight *weight = first_weights + o * l->in * side;
        number sum = 0;
        for (c = l->in; c; c--, from += l->rows * apart) {
            const word *place = memory + l->places;
            for (n = side; n; n--, weight++, place++) {
                const word *w = from + place->sum;
                if (w->lanes) {
                    const number product = w->value * weight_at(weight);
                    sum = sum + product;
                }
            }
        }
        current[t].value = first_current_of(&made, sum);
    }
    for (t = FRAMES; t < T; t++) { /* an image is the same current at every timestep */
        current[t] = current[0];
    }
}

#if SOFT_RESETS
/* How many spikes there are: one for each threshold in the potential. */
static int32_t spikes_of(const layer *l, number potential)
{
    const number fitting = THRESHOLDS_IN(potential);
    (void)l;
    return fitting >= MOST_SPIKES ? MOST_SPIKES : fitting >= 1 ? (int32_t)fitting : 0;
}
#endif

/* Runs one neuron over all timesteps of `current`, and adds its spikes to the counts of the cell that it is pooled in. */
static void fire(const layer *l, const word *current, word *cell)
{
    const word *const end = current + T;
    number potential = (current++)->value;
    uint32_t lane = 1;
    (void)l; /* all neurons may have the same constants */
    for (;;) {
        number kept = 0;
#if SOFT_RESETS
        const int32_t spikes = spikes_of(l, potential);
        const number taken = (number)spikes * SUBTRACT;
        number left = SUBTRACT > 0 ? potential - taken : spikes ? 0 : potential;
        left = left < LOWEST ? LOWEST : left;
        kept = LEAKED(left);
        cell->lanes += lane * (uint32_t)spikes;
#else
        if (potential >= THRESHOLD) {
            cell->lanes += lane;
        } else {
            kept = LEAKED(potential);
        }
#endif
        if (current == end) {
            return;
        }
        potential = kept + current->value;
        current++;
        lane <<= 8;
        if (!lane) {
            lane = 1;
            cell++;
        }
    }
}

#if SHORTCUTS
/* Adds what comes through a shortcut to the currents of a neuron of channel o, the spikes at `place` if there is no convolution. */
static void add_shortcut(const skip *s, word *memory, int32_t o, int32_t neuron, int32_t place, word *current)
{
    word counts[WORDS];
    int32_t t;
    if (s->convolution) {
        drive(s->convolution, o, memory + s->convolution->sums + neuron * WORDS * 4, current, 1);
        return;
    }
    unpack((const uint8_t *)(memory + s->input), s->bits, place, counts);
    for (t = 0; t < T; t++) {
        const number spikes = (number)(counts[t / 4].lanes >> LANES(t) & 255) * s->share;
        current[t].value = current[t].value + spikes;
    }
}
#endif

#if MAXIMA
enum { OF_SPIKES = 1, OF_CURRENTS };
#define STEP(l) (l)->step
#define EDGE(l) (l)->edge

/* Whether there is a spike in each lane of a cell. */
static void any(word *cell)
{
    int32_t i;
    for (i = 0; i < WORDS; i++) {
        uint32_t lanes = cell[i].lanes;
        lanes |= lanes >> 4 & 0x0f0f0f0fu;
        lanes |= lanes >> 2 & 0x03030303u;
        cell[i].lanes = (lanes | lanes >> 1) & 0x01010101u;
    }
}

/* Keeps the larger of two currents at each timestep; the first is not to be compared unless one was `seen`. */
static void keep_larger(word *largest, const word *current, int32_t seen)
{
    int32_t t;
    for (t = 0; t < T; t++) {
        if (!seen || current[t].value > largest[t].value) {
            largest[t] = current[t];
        }
    }
}
#else
#define STEP(l) (l)->pool /* squares lie side by side */
#define EDGE(l) 0
#endif

static void prepare(const weights *l, word *memory, int32_t words)
{
    const int32_t side = l->kernel * l->kernel;
    int32_t n;
    for (n = 0; n < side + 3; n++) { /* the four weights of a byte may run into the next channels */
        memory[l->places + n].sum = (place_of(l, n % side) + n / side * l->rows * l->stride * l->pitch) * words;
    }
}

/* A layer of spiking neurons; `input` feeds the first, the spikes of the layer before every other. */
static void spiking(const layer *l, word *memory, const given *input)
{
    const weights *own = &l->own;
    const int32_t within = 2 * own->padding - own->kernel;
    const int32_t all_rows = (own->height + within) / own->stride + 1, all_columns = (own->width + within) / own->stride + 1;
    const int32_t height = (all_rows + 2 * EDGE(l) - l->pool) / STEP(l) + 1;
    const int32_t width = (all_columns + 2 * EDGE(l) - l->pool) / STEP(l) + 1;
    const int32_t columns = at_most((width - 1) * STEP(l) + l->pool - EDGE(l), all_columns);
    uint8_t *packed = (uint8_t *)(memory + l->output);
    word *current = memory + l->current;
    word cell[WORDS];
#if SUMS
    word other[WORDS];
#endif
    int32_t o, y, x, r, q, i;
#if MAXIMA
    word *const largest = current + T;
#endif
    for (i = 0; i < l->output_words; i++) {
        memory[l->output + i].lanes = 0;
    }
    prepare(own, memory, input ? 1 : WORDS);
#if SHORTCUTS
    if (l->shortcut.convolution) {
        prepare(l->shortcut.convolution, memory, WORDS);
    }
#endif
    for (y = 0; y < height; y++) { /* neurons that the pooling drops are left out */
        const int32_t top = y * STEP(l) - EDGE(l), down = y ? STEP(l) : 0;
        slide(own, memory, input, top, down);
#if SHORTCUTS
        if (l->shortcut.convolution) {
            slide(l->shortcut.convolution, memory, 0, top, down);
        }
#endif
        for (o = 0; o < own->out; o++) {
            if (!input) {
                add_up(own, memory, o, l->pool, columns);
            }
#if SHORTCUTS
            if (l->shortcut.convolution) {
                add_up(l->shortcut.convolution, memory, o, l->pool, columns);
            }
#endif
            for (x = 0; x < width; x++) {
                for (i = 0; i < WORDS; i++) {
                    cell[i].lanes = 0;
                }
#if MAXIMA
                int32_t seen = 0;
#endif
                for (r = top < 0 ? -top : 0; r < at_most(l->pool, all_rows - top); r++) {
                    const int32_t left = x * STEP(l) - EDGE(l), right = at_most(left + l->pool, columns);
                    for (q = left < 0 ? 0 : left; q < right; q++) {
                        const int32_t neuron = r * columns + q;
                        if (input) {
                            encode(own, memory, o, r, q, current);
                        } else {
                            drive(own, o, memory + own->sums + neuron * WORDS * 4, current, 0);
                        }
#if SHORTCUTS
                        if (l->shortcut.input >= 0) {
                            const int32_t place = (o * all_rows + top + r) * all_columns + q;
                            add_shortcut(&l->shortcut, memory, o, neuron, place, current);
                        }
#endif
#if MAXIMA
                        if (l->max_of == OF_CURRENTS) {
                            keep_larger(largest, current, seen++);
                            continue;
                        }
#endif
                        fire(l, current, cell);
#if SUMS
                        if (l->added >= 0) {
                            const int32_t place = (o * all_rows + top + r) * all_columns + q;
                            unpack((const uint8_t *)(memory + l->added), l->added_bits, place, other);
                            for (i = 0; i < WORDS; i++) {
                                cell[i].lanes += other[i].lanes;
                            }
                        }
#endif
                    }
                }
#if MAXIMA
                if (l->max_of == OF_CURRENTS) {
                    fire(l, largest, cell);
                } else if (l->max_of == OF_SPIKES) {
                    any(cell);
                }
#endif
                pack(packed, l->bits, (o * height + y) * width + x, cell);
            }
        }
    }
}

static void read_out(word *memory, number *logits)
{
    const word *counts = memory + readout.window;
    word *current = memory + readout.sums;
    int32_t k, f, t;
    slide(&readout, memory, 0, 0, 0);
    for (k = 0; k < readout.out; k++) {
        const outer_weight *weights_of_class = readout_weights + k * readout.in;
        number potential = 0, total = 0;
        for (t = 0; t < T; t++) {
            current[t].value = 0;
        }
        for (f = 0; f < readout.in; f++) {
            for (t = 0; t < T; t++) {
                const uint32_t count = counts[f * WORDS + t / 4].lanes >> LANES(t) & 255;
                if (count) {
                    const number share = READOUT_SHARE(count);
                    const number product = share * weight_at(weights_of_class + f);
                    current[t].value = current[t].value + product;
                }
            }
        }
        for (t = 0; t < T; t++) {
            const number driven = current[t].value + number_at(readout_bias + k);
            const number kept = READOUT_LEAKED(potential);
            potential = kept + driven;
            total = total + potential;
        }
        logits[k] = total;
    }
}

static int largest(const number *logits)
{
    int best = 0, k;
    for (k = 1; k < @PREFIX_UPPER@_CLASSES; k++) {
        if (logits[k] > logits[best]) {
            best = k;
        }
    }
    return best;
}

static int classified(@PREFIX@_memory *memory, const given *input, number *logits)
{
    int32_t n;
    for (n = 0; n < LAYERS; n++) {
        spiking(&layers[n], memory->words, n ? 0 : input);
    }
    read_out(memory->words, logits);
    return largest(logits);
}

int @PREFIX@_classify_in(@PREFIX@_memory *memory, const uint8_t *input, number *logits)
{
    const given bytes = GIVEN_BYTES(input);
    return classified(memory, &bytes, logits);
}

#ifndef @PREFIX_UPPER@_CALLERS_MEMORY
static @PREFIX@_memory @PREFIX@_own_memory;

int @PREFIX@_classify(const uint8_t *input, number *logits) { return @PREFIX@_classify_in(&@PREFIX@_own_memory, input, logits); }
#endif
