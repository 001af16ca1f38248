/* Preloaded into the capture process: ALSA refuses to open `mic` with the errno in the file $REFUSED_WITH, if there is one.
   A process's first attempt succeeds: it is PortAudio making its list, from which it leaves out what it cannot open. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int open_t(void **, const char *, int, int);

int snd_pcm_open(void **pcm, const char *name, int stream, int mode)
{
    static int n_attempts;
    int number = 0;
    FILE *file = fopen(getenv("REFUSED_WITH"), "r");
    if (file != NULL) {
        if (fscanf(file, "%d", &number) != 1)
            number = 0;
        fclose(file);
    }
    if (strcmp(name, "mic") == 0 && stream == 1 && n_attempts++ > 0 && number != 0)
        return -number;
    open_t *real = (open_t *)dlsym(dlopen("libasound.so.2", RTLD_LAZY), "snd_pcm_open");
    return real(pcm, name, stream, mode);
}
