/* change_wire: an entry of the log as the API shows it; for the pull and for the sockets. */
#ifndef SD_FEATURES_CHANGE_WIRE_H
#define SD_FEATURES_CHANGE_WIRE_H

#include "api.h"
#include "drive/change.h"

/* Strings are borrowed from c. */
void wire_change(const struct change *c, struct Change *out);

#endif
