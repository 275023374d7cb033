"""Parts of `benchmarks/memory_plan.py`: small runs to plan, and the peaks that they really reach."""
