/* Starts a program on a bare Cortex-M: data and bss, the floating-point unit where there is one, then main. */
#include <stdint.h>

extern uint32_t data_in_flash, data_begin, data_end, bss_begin, bss_end, stack_top;
int main(void);

#ifndef IMAGE
extern void initialise_monitor_handles(void); /* semihosting: the debugger, here the emulator, prints */
extern void exit(int);
#endif

void reset(void)
{
    uint32_t *from = &data_in_flash, *to = &data_begin;
    while (to < &data_end) {
        *to++ = *from++;
    }
    for (to = &bss_begin; to < &bss_end;) {
        *to++ = 0;
    }
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20;
    __asm volatile("dsb\nisb");
#endif
#ifdef IMAGE
    main();
    for (;;) {
    }
#else
    initialise_monitor_handles();
    exit(main());
#endif
}

void _init(void) {}
void _fini(void) {}

static void hang(void)
{
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))&stack_top, reset, hang, hang, hang, hang, hang,
};
