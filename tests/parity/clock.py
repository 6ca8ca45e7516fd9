"""A clock for the reference that stands still until somebody sleeps.

`install` replaces `datetime` and `time` in modules that are loaded already; sleeping moves the clock on and returns at once, and is told
to `on_sleep`. Short sleeps are real: threads of the reference use them to wait for each other.
"""
import datetime as real_datetime
import sys
import threading
import time as real_time
import types

MODULES = ("airbyte_cdk", "backoff", "pyrate_limiter", "requests_cache")
OF_TIME = ("time", "sleep", "monotonic", "perf_counter", "perf_counter_ns")
REAL_SLEEP_UP_TO = 0.25


class Clock:
    def __init__(self, microseconds, on_sleep):
        self._now = microseconds
        self._lock = threading.Lock()
        self._on_sleep = on_sleep

    def time(self):
        return self._now / 1_000_000

    monotonic = perf_counter = time

    def perf_counter_ns(self):
        return self._now * 1_000

    def sleep(self, seconds):
        if seconds <= REAL_SLEEP_UP_TO:
            real_time.sleep(max(seconds, 0))
            return
        with self._lock:
            self._now += round(seconds * 1_000_000)
        self._on_sleep(seconds)
        real_time.sleep(0.001)


def class_with(clock, original):
    """A stand-in for a class of `datetime`: what it makes are instances of the original, only `now` and `today` differ."""

    class Meta(type):
        def __instancecheck__(cls, value):
            return isinstance(value, original)

        def __subclasscheck__(cls, other):
            return issubclass(other, original)

    class StandIn(original, metaclass=Meta):
        def __new__(cls, *args, **kwargs):
            return original(*args, **kwargs)

        @classmethod
        def now(cls, tz=None):
            return original.fromtimestamp(clock.time(), tz)

        @classmethod
        def utcnow(cls):
            return original.utcfromtimestamp(clock.time())

        @classmethod
        def today(cls):
            return original.fromtimestamp(clock.time())

    for name in ("fromtimestamp", "fromisoformat", "utcfromtimestamp", "fromordinal", "combine", "strptime", "min", "max"):
        if hasattr(original, name):
            setattr(StandIn, name, getattr(original, name))
    StandIn.__name__ = StandIn.__qualname__ = original.__name__
    return StandIn


def install(clock):
    """Puts the clock in place of `datetime`, `date`, `time` and `sleep` in the modules of the reference."""
    moments = class_with(clock, real_datetime.datetime)
    days = class_with(clock, real_datetime.date)
    fake_datetime = module_like(real_datetime, datetime=moments, date=days)
    fake_time = module_like(real_time, **{name: getattr(clock, name) for name in OF_TIME})
    swaps = [
        (real_datetime.datetime, moments), (real_datetime.date, days), (real_datetime, fake_datetime), (real_time, fake_time),
    ]
    swaps += [(getattr(real_time, name), getattr(clock, name)) for name in OF_TIME]
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in MODULES and not name.startswith("airbyte_cdk.models"):
            for attribute, value in list(vars(module).items()):
                for original, stand_in in swaps:
                    if value is original:
                        setattr(module, attribute, stand_in)


def module_like(original, **changes):
    module = types.ModuleType(original.__name__)
    vars(module).update(vars(original))
    vars(module).update(changes)
    return module
