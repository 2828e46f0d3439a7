/* Written by tnacli @VERSION@; @PREFIX@.h says how to use it. */
#include "@PREFIX@.h"

#ifndef @PREFIX_UPPER@_TABLE
#define @PREFIX_UPPER@_TABLE
#endif
#ifndef @PREFIX_UPPER@_BYTE
#define @PREFIX_UPPER@_BYTE(address) (*(address))
#endif
#ifndef @PREFIX_UPPER@_FLOAT
#define @PREFIX_UPPER@_FLOAT(address) (*(address))
#endif

typedef union @PREFIX@_word word;
