"""One measurement from bundle to verified figures: the job, its outputs, what to warn of; and many on many devices."""
