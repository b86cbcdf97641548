"""The daemon: schedule, start and reap runs; start, reload, stop, watchdog; the control socket."""
