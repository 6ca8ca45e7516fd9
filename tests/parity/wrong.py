"""Deliberate mistakes, one at a time, in what the reference says: they prove that the comparison can fail."""


class Wrong:
    """Passes lines on, with one mistake of the given sort."""

    def __init__(self, out, sort):
        self._out, self._sort, self._done = out, sort, False
        self._held = None
        self.printed = out.printed

    def line(self, **fields):
        if not self._done and fields["type"] in ("record", "state", "error"):
            fields = self._spoilt(fields)
        if fields is not None:
            self._out.line(**fields)

    def _spoilt(self, fields):
        kind = fields["type"]
        if self._sort == "missing" and kind == "record":
            self._done = True
            return None
        if self._sort == "order" and kind == "record":
            return self._swapped(fields)
        if self._sort in ("record", "type") and kind == "record":
            self._done = True
            spoil = str if self._sort == "type" else lambda value: [value]
            return {**fields, "data": {key: spoil(value) for key, value in fields["data"].items()}}
        if self._sort == "state" and kind == "state":
            return {**fields, "state": {**fields["state"], "spoilt": True}}
        if self._sort == "error" and kind == "error":
            return {**fields, "kind": "transient" if fields["kind"] != "transient" else "config"}
        return fields

    def _swapped(self, fields):
        """Holds the first record back until after the second."""
        if self._held is None:
            self._held = fields
            return None
        self._done = True
        self._out.line(**fields)
        return self._held

    def close(self):
        if self._sort == "order" and not self._done and self._held is not None:
            self._out.line(**self._held)
        self._out.close()
