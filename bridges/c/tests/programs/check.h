/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

#include <atomic_matrix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The call ends so. A failure has a text of some length. */
#define ENDS(expected, call)                                                                            \
  do {                                                                                                  \
    amx_status found = (call);                                                                          \
    if (found != (expected) || (found != AMX_OK && strlen(amx_last_error()) < 20)) {                    \
      fprintf(stderr, "%s:%d: %s: %s, expected %s: %s\n", __FILE__, __LINE__, #call,                    \
              amx_status_name(found), amx_status_name(expected), amx_last_error());                     \
      exit(1);                                                                                          \
    }                                                                                                   \
  } while (0)
#define OK(call) ENDS(AMX_OK, call)
#define HOLDS(condition)                                                                                \
  do {                                                                                                  \
    if (!(condition)) {                                                                                 \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                           \
      exit(1);                                                                                          \
    }                                                                                                   \
  } while (0)

static const uint64_t SECOND = 1000000000, LONG = 60 * 1000000000ull;

#endif
