/* must: assertions about our own code. They stay on in release and never judge input, disks or networks. */
#ifndef SD_BASE_MUST_H
#define SD_BASE_MUST_H

#define must(cond) ((cond) ? (void)0 : must_fail(#cond, __FILE__, __LINE__, __func__))

/* Prints the condition and the place to stderr, then aborts. */
_Noreturn void must_fail(const char *cond, const char *file, int line, const char *func);

/* A large local array of which little is used: release builds are told to zero every local, this one they need not. */
#if defined __has_attribute && __has_attribute(uninitialized)
#define UNSET __attribute__((uninitialized))
#else
#define UNSET
#endif

#endif
