"""Phones over adb: jobs that run detached on the device, so that neither a cable nor this machine can cut one short."""
