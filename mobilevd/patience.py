"""How long processes wait for one another."""

from datetime import timedelta

# The others wait while the first exports or measures a row, which at full size takes hours: no collective may time out.
PATIENCE = timedelta(days=30)
