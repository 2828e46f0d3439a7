/* The part of an exported network that is the same for all; @PREFIX@ and the tables above it are filled in by c.py.
 *
 * A layer is worked off neuron by neuron, each over all timesteps: its potential is one variable, and what is kept
 * between layers is one byte a value and timestep, the number of spikes behind the pooling. Fully connected layers are
 * convolutions of 1x1 over a map of 1x1. Every product and sum is assigned to a variable of its own, so that it is
 * rounded to float alone, as docs/packed-format.md asks; GCC needs -std=c99 or -ffp-contract=off for that. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

static int32_t at_least(int32_t value, int32_t floor) { return value < floor ? floor : value; }

static int32_t at_most(int32_t value, int32_t ceiling) { return value > ceiling ? ceiling : value; }

/* Runs one neuron over all timesteps of `current`, and adds its spikes to the counts of the cell that it is pooled in. */
static void fire(uint8_t *cell)
{
    float potential = 0.0f;
    int32_t t;
    for (t = 0; t < T; t++) {
        const float kept = DECAY * potential;
        potential = kept + current[t];
        if (potential >= THRESHOLD) {
            cell[t] = (uint8_t)(cell[t] + 1);
            potential = 0.0f;
        }
    }
}

/* The currents of one neuron of the first layer: float weights times the input, summed in float. */
static void encode(const layer *l, const float *input, int32_t o, int32_t y, int32_t x)
{
    const int32_t side = l->kernel, half = side / 2, plane = l->height * l->width;
    const int32_t cy = y * l->stride, cx = x * l->stride;
    const int32_t top = at_least(half - cy, 0), bottom = at_most(l->height + half - cy, side);
    const int32_t left = at_least(half - cx, 0), right = at_most(l->width + half - cx, side);
    int32_t t, c, i, j;
    for (t = 0; t < FRAMES; t++) {
        float sum = 0.0f;
        for (c = 0; c < l->in; c++) {
            const float *values = input + (t * l->in + c) * plane;
            const float *weights = first_weights + (o * l->in + c) * side * side;
            for (i = top; i < bottom; i++) {
                for (j = left; j < right; j++) {
                    const float product = values[(cy + i - half) * l->width + cx + j - half] * weights[i * side + j];
                    sum = sum + product;
                }
            }
        }
        {
            const float scaled = sum * l->scale[o];
            current[t] = scaled + l->shift[o];
        }
    }
    for (t = FRAMES; t < T; t++) { /* an image is the same current at every timestep */
        current[t] = current[0];
    }
}

/* The currents of one neuron of a hidden layer: spike counts added where the weight is +1, taken away where it is -1.
 * They are added to those that are there already where `besides` is set. */
static void add_up(const layer *l, const uint8_t *counts, int32_t o, int32_t y, int32_t x, int besides)
{
    const int32_t side = l->kernel, half = side / 2;
    const int32_t cy = y * l->stride, cx = x * l->stride;
    const int32_t top = at_least(half - cy, 0), bottom = at_most(l->height + half - cy, side);
    const int32_t left = at_least(half - cx, 0), right = at_most(l->width + half - cx, side);
    const uint8_t *row = l->codes + o * l->row_bytes;
    int32_t t, c, i, j;
    for (t = 0; t < T; t++) {
        sums[t] = 0;
    }
    for (c = 0; c < l->in; c++) {
        for (i = top; i < bottom; i++) {
            for (j = left; j < right; j++) {
                const int32_t place = (c * side + i) * side + j;
                const uint8_t code = (uint8_t)((row[place / 4] >> (2 * (place % 4))) & 3); /* weight + 1 */
                const uint8_t *spikes = counts + ((c * l->height + cy + i - half) * l->width + cx + j - half) * T;
                if (code == 2) {
                    for (t = 0; t < T; t++) {
                        sums[t] += spikes[t];
                    }
                } else if (code == 0) {
                    for (t = 0; t < T; t++) {
                        sums[t] -= spikes[t];
                    }
                }
            }
        }
    }
    for (t = 0; t < T; t++) {
        const float sum = (float)sums[t] * l->share; /* a power of two: exact */
        const float scaled = sum * l->scale[o];
        const float driven = scaled + l->shift[o];
        current[t] = besides ? current[t] + driven : driven;
    }
}

#if SHORTCUTS
/* Adds what comes through the shortcut of layer n, if it has one, to the currents of one neuron. */
static void add_shortcut(int32_t n, int32_t rows, int32_t columns, int32_t o, int32_t y, int32_t x)
{
    const skip *s = &skips[n];
    int32_t t;
    if (s->source < 0) {
        return;
    }
    if (s->convolution) {
        add_up(s->convolution, buffers[s->source % BUFFERS], o, y, x, 1);
        return;
    }
    for (t = 0; t < T; t++) {
        const float spikes = (float)buffers[s->source % BUFFERS][((o * rows + y) * columns + x) * T + t] * s->share;
        current[t] = current[t] + spikes;
    }
}
#endif

/* Layer n of spiking neurons; `input` feeds the first, the spikes of the layer before every other. */
static void spiking(int32_t n, const float *input)
{
    const layer *l = &layers[n];
    const int32_t rows = (l->height - 1) / l->stride + 1, columns = (l->width - 1) / l->stride + 1;
    const int32_t height = rows / l->pool, width = columns / l->pool;
    uint8_t *out = buffers[n % BUFFERS];
    int32_t o, y, x, i;
    for (i = 0; i < l->out * height * width * T; i++) {
        out[i] = 0;
    }
    for (o = 0; o < l->out; o++) {
        for (y = 0; y < height * l->pool; y++) { /* neurons that the pooling drops are left out */
            for (x = 0; x < width * l->pool; x++) {
                if (n == 0) {
                    encode(l, input, o, y, x);
                } else {
                    add_up(l, buffers[(n - 1) % BUFFERS], o, y, x, 0);
                }
#if SHORTCUTS
                add_shortcut(n, rows, columns, o, y, x);
#endif
                fire(out + ((o * height + y / l->pool) * width + x / l->pool) * T);
            }
        }
    }
}

static void read_out(const uint8_t *counts, float *logits)
{
    int32_t k, f, t;
    for (k = 0; k < @PREFIX_UPPER@_CLASSES; k++) {
        const float *weights = readout_weights + k * FEATURES;
        float potential = 0.0f, total = 0.0f;
        for (t = 0; t < T; t++) {
            current[t] = 0.0f;
        }
        for (f = 0; f < FEATURES; f++) {
            for (t = 0; t < T; t++) {
                const float share = (float)counts[f * T + t] * READOUT_SHARE;
                const float product = share * weights[f];
                current[t] = current[t] + product;
            }
        }
        for (t = 0; t < T; t++) {
            const float driven = current[t] + readout_bias[k];
            const float kept = READOUT_LEAK * potential;
            potential = kept + driven;
            total = total + potential;
        }
        logits[k] = total;
    }
}

static int largest(const float *logits)
{
    int best = 0, k;
    for (k = 1; k < @PREFIX_UPPER@_CLASSES; k++) {
        if (logits[k] > logits[best]) {
            best = k;
        }
    }
    return best;
}

int @PREFIX@_run(const float *input, float *logits)
{
    int32_t n;
    for (n = 0; n < LAYERS; n++) {
        spiking(n, input);
    }
    read_out(buffers[(LAYERS - 1) % BUFFERS], logits);
    return largest(logits);
}
