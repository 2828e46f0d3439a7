/* Currents, potentials and logits in float.
 *
 * Every product and sum is assigned to a variable of its own, so that it is rounded to float alone, as
 * docs/packed-format.md asks; GCC needs -std=c99 or -ffp-contract=off for that. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define LEAKED(potential) (DECAY * (potential))
#define READOUT_LEAKED(potential) (READOUT_LEAK * (potential))
#define THRESHOLDS_IN(potential) ((potential) / THRESHOLD)
#define READOUT_SHARE(count) ((float)(count) / READOUT_DIVISOR)
#define GIVEN_BYTES(input) {0, input}

/* The input as the caller gave it: floats, or else bytes. */
typedef struct {
    const float *floats;
    const uint8_t *bytes;
} given;

static float input_value(const given *input, int32_t place)
{
    if (input->floats) {
        return input->floats[place];
    }
    return BYTE_VALUE(input->bytes[place], place);
}

static float number_at(const float *address) { return @PREFIX_UPPER@_FLOAT(address); }

static float weight_at(const outer_weight *address) { return number_at(address); }

/* What makes a current of the sum of a neuron of channel o. */
typedef struct {
    float scale, shift;
} factors;

static factors factors_of(const weights *l, int32_t o)
{
    factors made;
    made.scale = number_at(l->scale + o);
    made.shift = number_at(l->shift + o);
    return made;
}

static float first_current_of(const factors *made, float sum)
{
    const float scaled = sum * made->scale;
    return scaled + made->shift;
}

static float current_of(const factors *made, int32_t sum)
{
    return sum ? first_current_of(made, (float)sum) : made->shift;
}

