"""Tests of the adb transport, against a genuine adbd where this machine can start one, and against a stand-in."""
