"""What every test may rely on."""

import signal

# Ignored signals are inherited, by us and our children: SIGHUP under nohup, SIGINT in a shell's
# background. Tests of signals need the usual ones.
for _number, _usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)
