"""Where a program's time goes: the runtime's trace, and the module that each operator in it comes from."""
