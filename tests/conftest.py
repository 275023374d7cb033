"""What holds for all tests, before the first of them imports torch."""

import os

# The models here are so small that a second thread only waits for the first, and does so busily: beside any other work
# on the machine a training of seconds takes minutes. Processes that tests start have it from here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
