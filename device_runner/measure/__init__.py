"""One measurement, from bundle to checked figures: the job, its outputs, its warnings; and many on several devices."""
