/* A library with thread-local storage. */
__thread int thread_local_words[64];

int *words(void);
int *words(void) { return thread_local_words; }
