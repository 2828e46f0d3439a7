/* Feeds the inputs of the file argv[1] to the network, one sample after the other; logits go to the file argv[2].
 * With a third argument the inputs are bytes, else floats. */
#include <stdio.h>

#include "@PREFIX@.h"

@FLOATS@
static float input[@PREFIX_UPPER@_INPUTS];
@END@
static @NUMBER@ logits[@PREFIX_UPPER@_CLASSES];
static unsigned char bytes[@PREFIX_UPPER@_INPUTS];

int main(int count, char **names)
{
    FILE *in, *out;
    int closed;
    if (count < 3 || (in = fopen(names[1], "rb")) == NULL || (out = fopen(names[2], "wb")) == NULL) {
        return 2;
    }
    if (count > 3) {
        while (fread(bytes, sizeof bytes, 1, in) == 1) {
            @PREFIX@_classify(bytes, logits);
            if (fwrite(logits, sizeof logits, 1, out) != 1) {
                return 3;
            }
        }
    }
@FLOATS@
    while (fread(input, sizeof input, 1, in) == 1) {
        @PREFIX@_run(input, logits);
        if (fwrite(logits, sizeof logits, 1, out) != 1) {
            return 3;
        }
    }
@END@
    closed = fclose(out);
    return fclose(in) || closed;
}
