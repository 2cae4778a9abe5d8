/* The API's description, carried in the binary. api.h is included so that both are built anew together. */
#include "api.h"
#include "bin/server.h"

__asm__(".section .rodata\n"
        ".global scaidrive_openapi, scaidrive_openapi_end\n"
        "scaidrive_openapi:\n"
        ".incbin \"" SD_OPENAPI_PATH "\"\n"
        "scaidrive_openapi_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char scaidrive_openapi[], scaidrive_openapi_end[];

struct str server_openapi(void)
{
	return str_n(scaidrive_openapi, (size_t)(scaidrive_openapi_end - scaidrive_openapi));
}
