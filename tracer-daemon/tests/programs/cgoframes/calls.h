/* goAllocate through three functions of C, of which the innermost is static. */
void c_outer(int objects);

/* goOnThread on a thread that C makes. Waits for its end. */
void c_on_thread(int objects);
