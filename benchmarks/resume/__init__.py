"""What the campaign of kills and faults is made of."""
