"""Phones over adb: jobs that run detached on the device, so that neither a lost link nor this machine ends one."""
