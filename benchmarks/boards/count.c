/* Prints the logits of every sample, each as the hexadecimal digits of its bits, and the instructions that all took.
 *
 * They are counted by the timer of the mps2 boards: 25 MHz, so one tick is 40 instructions at one a nanosecond, which is
 * what `-icount shift=0` makes of the emulator. samples.h has `samples` and SAMPLES. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "net.h"
#ifndef IMAGE
#include "samples.h"
#endif

#define TIMER ((volatile uint32_t *)0x40000000) /* control, value, reload, interrupt */

static NET_LOGIT logits[NET_CLASSES];

int main(void)
{
#ifdef IMAGE /* what a product would hold besides the network: nothing */
    static uint8_t pixels[NET_INPUTS];
    return net_classify(pixels, logits);
#else
    uint32_t bits, before, ticks = 0;
    int n, k;
    TIMER[2] = 0xffffffffu;
    TIMER[1] = 0xffffffffu;
    TIMER[0] = 1;
    for (n = 0; n < SAMPLES; n++) {
        before = TIMER[1];
        net_classify(samples + (long)n * NET_INPUTS, logits);
        ticks += before - TIMER[1];
        for (k = 0; k < NET_CLASSES; k++) {
            memcpy(&bits, &logits[k], 4);
            printf("%08lx ", (unsigned long)bits);
        }
        printf("\n");
    }
    printf("%lu\n", (unsigned long)ticks);
    return 0;
#endif
}
