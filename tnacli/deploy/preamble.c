/* Written by tnacli @VERSION@; @PREFIX@.h says how to use it. */
#include "@PREFIX@.h"

#if defined(__AVR__) && !defined(@PREFIX_UPPER@_TABLE) /* constants would be copied to RAM there */
#include <avr/pgmspace.h>
#define @PREFIX_UPPER@_TABLE PROGMEM
#define @PREFIX_UPPER@_BYTE(address) pgm_read_byte(address)
@FLOATS@
#define @PREFIX_UPPER@_FLOAT(address) pgm_read_float(address)
@END@
@INTEGERS@
#define @PREFIX_UPPER@_WORD(address) pgm_read_dword(address)
@END@
#endif
#ifndef @PREFIX_UPPER@_TABLE
#define @PREFIX_UPPER@_TABLE
#endif
#ifndef @PREFIX_UPPER@_BYTE
#define @PREFIX_UPPER@_BYTE(address) (*(address))
#endif
#ifndef @PREFIX_UPPER@_@READ@
#define @PREFIX_UPPER@_@READ@(address) (*(address))
#endif

typedef union @PREFIX@_word word;
typedef @NUMBER@ number; /* of currents, potentials and logits */
typedef @WEIGHT@ outer_weight; /* of the first layer and the readout */
