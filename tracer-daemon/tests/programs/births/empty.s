// Empty: with it the compiler accepts a function without a body, which main.go links to the runtime's.
