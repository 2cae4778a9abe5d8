/* logsink: log lines gathered and written to a descriptor by one thread, every 100 ms or 64 KiB, errors at once.
 *
 * There is one for the process (log's sink is a plain function): logsink_open installs it, logsink_close flushes,
 * restores the silent sink and joins. When the descriptor is slower than the lines come, lines above 4 MiB are dropped
 * and counted; the count is written with the next batch.
 */
#ifndef SD_IO_LOGSINK_H
#define SD_IO_LOGSINK_H

#include "base/log.h"

/* fd is borrowed. */
void logsink_open(int fd, enum log_level least);
/* Writes what is gathered before it returns. */
void logsink_flush(void);
void logsink_close(void);

#endif
