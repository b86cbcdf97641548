"""The package on a whole Debian with systemd as its first process; started by script/test-system."""
