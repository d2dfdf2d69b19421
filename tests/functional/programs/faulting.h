/* Whether a touch faults: each program installs `on_fault` for the signals it means. */
#ifndef VSWAP_TEST_FAULTING_H
#define VSWAP_TEST_FAULTING_H

#include "vswap_test.h"
#include <setjmp.h>

static _Thread_local sigjmp_buf back;

static void on_fault(int number) {
    (void)number;
    siglongjmp(back, 1);
}

/* Where it does not fault the byte stays as it was. */
static int faults_on_write(volatile char *address) {
    if (sigsetjmp(back, 1))
        return 1;
    *address = *address;
    return 0;
}

static int faults_on_read(const volatile char *address) {
    if (sigsetjmp(back, 1))
        return 1;
    (void)*address;
    return 0;
}

#endif
