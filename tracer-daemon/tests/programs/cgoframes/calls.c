#include <pthread.h>

#include "_cgo_export.h"
#include "calls.h"

/* Not to be optimised away: what is on the stack is what the test is about. */
static volatile int calls;

static __attribute__((noinline)) void c_hidden(int objects) {
	goAllocate(objects);
	calls++;
}

__attribute__((noinline)) void c_inner(int objects) {
	c_hidden(objects);
	calls++;
}

void c_outer(int objects) {
	c_inner(objects);
	calls++;
}

static void *c_thread(void *objects) {
	goOnThread(*(int *)objects);
	calls++;
	return objects;
}

void c_on_thread(int objects) {
	pthread_t thread;
	if (pthread_create(&thread, 0, c_thread, &objects) == 0) {
		pthread_join(thread, 0);
	}
}
