"""JAX's key-value service, in this process."""

import threading
import time

import jax


class Service:
    """What several clients share; `gone` makes every call fail, as when process 0 has died."""

    def __init__(self):
        self.values: dict[str, str] = {}
        self.gone = False
        self._lock = threading.Lock()

    def _check(self):
        if self.gone:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: Socket closed")

    def key_value_set(self, key, value, allow_overwrite=False):
        with self._lock:
            self._check()
            if key in self.values and not allow_overwrite:
                raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: key {key} already exists.")
            self.values[key] = value

    def key_value_dir_get(self, key):
        with self._lock:
            self._check()
            return [(name, value) for name, value in self.values.items() if name.startswith(key)]

    def blocking_key_value_get(self, key, timeout_in_ms):
        deadline = time.monotonic() + min(timeout_in_ms / 1000, 0.01)
        while time.monotonic() < deadline:
            with self._lock:
                self._check()
                if key in self.values:
                    return self.values[key]
            time.sleep(0.001)
        raise jax.errors.JaxRuntimeError(f"DEADLINE_EXCEEDED: GetKeyValue() timed out with key: {key}")

    def key_value_increment(self, key, increment):
        with self._lock:
            self._check()
            self.values[key] = str(int(self.values.get(key, "0")) + increment)
            return int(self.values[key])
