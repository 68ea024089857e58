/* Stands in a board's root in place of a program, and runs that, which lies beside it as `PROGRAM.paced`, by the qemu in
   FOLDER with its plugin, whoever starts it and by whichever name. Static: of its own kind it finds no library there. */

#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - sizeof ".paced");
    if (length < 0) {
        perror("/proc/self/exe");
        return 127;
    }
    strcpy(program + length, ".paced");
    char *before[] = {
        FOLDER "/ld.so", "--library-path", FOLDER, FOLDER "/qemu", "-plugin", FOLDER "/pace.so," PACE, "-0", argv[0], program,
    };
    enum { BEFORE = sizeof before / sizeof *before };
    char *all[BEFORE + argc];
    memcpy(all, before, sizeof before);
    memcpy(all + BEFORE, argv + 1, argc * sizeof *argv); /* with the NULL at the end */
    execv(all[0], all);
    perror(all[0]);
    return 127;
}
