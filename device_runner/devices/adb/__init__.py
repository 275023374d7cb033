"""Phones over adb: jobs run detached on the device, so that neither a lost link nor this machine ends one."""
