// Prints what CPUID says: leaf, subleaf, EAX, EBX, ECX, EDX, in hexadecimal.
#include <cpuid.h>
#include <stdio.h>

int main(void) {
    const unsigned first[] = {0, 0x80000000};
    for (int range = 0; range < 2; range++) {
        unsigned last, b, c, d;
        __cpuid(first[range], last, b, c, d);
        for (unsigned leaf = first[range]; leaf <= last; leaf++)
            for (unsigned sub = 0; sub < 8; sub++) {
                unsigned a;
                __cpuid_count(leaf, sub, a, b, c, d);
                printf("%x %x %x %x %x %x\n", leaf, sub, a, b, c, d);
            }
    }
}
