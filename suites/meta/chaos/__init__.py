"""Fault injection: runs that are killed, resumed and robbed of disks, for many minutes."""
