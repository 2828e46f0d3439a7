/* Currents, potentials and logits in whole numbers of 32 bits, none of which can overflow: c_integers.py has chosen them so.
 * A current is of 2^-POTENTIAL_BITS of the threshold, a logit of what the header says. */
#define LEAKED(potential) ((potential) * DECAY >> DECAY_BITS)
#define READOUT_LEAKED(potential) ((potential) * READOUT_LEAK >> READOUT_LEAK_BITS)
#define THRESHOLDS_IN(potential) ((potential) >> POTENTIAL_BITS)
#define READOUT_SHARE(count) ((int32_t)(count) * READOUT_ONE)
#define GIVEN_BYTES(input) {input}

typedef char shifts_keep_the_sign[(-1 >> 1) == -1 ? 1 : -1]; /* which C leaves to the compiler */

typedef struct {
    const uint8_t *bytes;
} given;

static int32_t input_value(const given *input, int32_t place) { return BYTE_VALUE(input->bytes[place], place); }

static int32_t number_at(const int32_t *address) { return @PREFIX_UPPER@_WORD(address); }

static int32_t weight_at(const outer_weight *address) { return (int8_t)@PREFIX_UPPER@_BYTE((const uint8_t *)address); }

/* What makes a current of the sum of a neuron of channel o. */
typedef struct {
    int32_t scale, shift, down;
} factors;

static factors factors_of(const weights *l, int32_t o)
{
    factors made;
    made.scale = number_at(l->scale + o);
    made.shift = number_at(l->shift + o);
    made.down = l->down;
    return made;
}

static int32_t current_of(const factors *made, int32_t sum) { return (sum * made->scale + made->shift) >> made->down; }

static int32_t first_current_of(const factors *made, int32_t sum) { return current_of(made, sum >> FIRST_DROPPED); }

