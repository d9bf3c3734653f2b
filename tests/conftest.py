"""What every test may rely on."""

import signal

# Under nohup SIGHUP comes ignored, and children inherit that: tests of signals need the usual one.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
