"""Log records as JSON, one object a line."""

import json
import logging
from datetime import UTC, datetime

from rankport.runtime.server.observing.call import current_call


class JsonFormatter(logging.Formatter):
    """Time in UTC, level, logger, message, the request, a record's own `fields`, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        call = current_call()
        if call is not None:
            entry["request_id"] = call.request_id
        fields = getattr(record, "fields", None)
        if fields:
            entry |= {"message": entry["message"].partition(":")[0], **fields}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
