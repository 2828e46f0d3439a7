/* Feeds the float inputs of the file argv[1] to the network, one sample after the other; logits go to the file argv[2].
 * With a third argument the inputs are pixels, a byte each. */
#include <stdio.h>

#include "@FILE@.h"

static float input[@PREFIX_UPPER@_INPUTS], logits[@PREFIX_UPPER@_CLASSES];
#ifdef @PREFIX_UPPER@_PIXELS
static unsigned char pixels[@PREFIX_UPPER@_INPUTS];
#endif

int main(int count, char **names)
{
    FILE *in, *out;
    int closed;
    if (count < 3 || (in = fopen(names[1], "rb")) == NULL || (out = fopen(names[2], "wb")) == NULL) {
        return 2;
    }
#ifdef @PREFIX_UPPER@_PIXELS
    if (count > 3) {
        while (fread(pixels, sizeof pixels, 1, in) == 1) {
            @PREFIX@_classify(pixels, logits);
            if (fwrite(logits, sizeof logits, 1, out) != 1) {
                return 3;
            }
        }
    }
#endif
    while (fread(input, sizeof input, 1, in) == 1) {
        @PREFIX@_run(input, logits);
        if (fwrite(logits, sizeof logits, 1, out) != 1) {
            return 3;
        }
    }
    closed = fclose(out);
    return fclose(in) || closed;
}
