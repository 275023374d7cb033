"""`python -m mobilevd`, for launchers such as `accelerate launch -m mobilevd`."""

from mobilevd.cli import main

if __name__ == "__main__":
    main()
