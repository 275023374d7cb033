"""The profile of a program: its time in the runtime's trace, and the module that each operator in it comes from."""
