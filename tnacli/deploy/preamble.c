/* Written by tnacli @VERSION@; @PREFIX@.h says how to use it. */
#include "@PREFIX@.h"

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
