"""What every test may rely on."""

import importlib.util
import signal

from lengthwise.predictors import log_writer, request_log

# Ignored signals are inherited, by us and our children: SIGHUP under nohup, SIGINT in a shell's
# background. Tests of signals need the usual ones.
for _number, _usual in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

if importlib.util.find_spec("hypothesis") is not None:  # not in the environments of the plug-ins
    from hypothesis import HealthCheck, settings

    # By default an example fails that takes 200 ms, on whatever machine.
    settings.register_profile(
        "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("steady")

# A disk that is busy with what others write takes seconds to flush.
log_writer.CLOSE_S = request_log.BUSY_S = 60.0
